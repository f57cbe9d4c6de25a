// One function for each thing that can be wrong; diagnose() puts them in order.
#include "core/diagnosis.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/quantity.hpp"
#include "core/sql_name.hpp"

namespace django_session {
namespace {

// What is worth a person's time. A part of the table is, from a tenth of it on: below that the
// rewrite or rebuild costs more than it gives, and Django's daily turnover makes as much again. A
// megabyte never is, and a gigabyte always (where the check's default threshold warns).
constexpr double kWorthShare = 0.1;
constexpr double kNeverWorth = 1024.0 * 1024;
constexpr double kAlwaysWorth = 1024.0 * 1024 * 1024;
// clearsessions is meant to run daily (Django's documentation); after two days it has failed twice.
constexpr double kOverdue = 2 * 86400.0;

using Advices = std::vector<Advice>;

std::string size(double bytes) { return format_quantity(bytes, Unit::bytes); }

std::string table_of(const Measurement& m) { return sql_table(m.table.schema, m.table.name); }

/// The same for regclass, which knows no escapes.
std::string regclass_text(const Measurement& m) {
  const std::string plain = table_of(m);
  return survives_printing(m.table.schema + m.table.name)
             ? plain
             : table_text(m.table.schema, m.table.name);
}

bool worth_it(double part, const Measurement& m) {
  return part >= kAlwaysWorth || (part >= kNeverWorth && part >= kWorthShare * m.total_bytes());
}

/// `text` as one word for a shell, with escapes ($'...') where it would be changed to be printed.
std::string escaped_shell_word(const std::string& text) {
  std::string quoted = "$'";
  for (const char c : text) {
    if (c >= ' ' && c < 0x7f && c != '|' && c != '\'' && c != '\\')
      quoted += c;
    else
      quoted += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
  }
  return quoted + "'";
}

/// `text` as one word for a shell.
std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '/';
  });
  if (plain && text.front() != '-') return text;
  if (!survives_printing(text)) return escaped_shell_word(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string roles_script(const Measurement& m) {
  return fmt::format("psql -d {} -v table={} -v monitor={} -f conf.d/roles.sql",
                     shell_word(m.table.database), shell_word(regclass_text(m)),
                     shell_word(m.table.role));
}

void advise_on_lock(const Measurement& m, Advices& advices) {
  advices.push_back(
      {fmt::format("the table is locked{}{}: wait until it is free; sizes may be out of date until "
                   "then. Who holds the lock:",
                   m.locked_by.empty() ? "" : " by ", m.locked_by),
       fmt::format("SELECT a.pid, l.mode, l.granted, a.state, a.query FROM pg_locks l JOIN "
                   "pg_stat_activity a USING (pid) "
                   "WHERE l.relation = {}::regclass;",
                   printable_string(regclass_text(m)))});
}

void advise_on_rights(const Measurement& m, Advices& advices) {
  const std::string role = sql_identifier(m.table.role);
  if (!m.table.may_use_schema)
    advices.push_back(
        {fmt::format("role {} may not use schema {}; as its owner:", m.table.role, m.table.schema),
         fmt::format("GRANT USAGE ON SCHEMA {} TO {};", sql_identifier(m.table.schema), role)});
  else if (!m.table.may_read_expire_date)
    advices.push_back(
        {fmt::format(
             "role {} may not read expire_date, so sessions can't be judged; as the table's owner:",
             m.table.role),
         fmt::format("GRANT SELECT (expire_date) ON {} TO {};", table_of(m), role)});
}

/// Where the statistics target is 0, ANALYZE alone would change nothing.
std::string analyze_command(const Measurement& m, std::string_view column) {
  return fmt::format("ALTER TABLE {0} ALTER {1} SET STATISTICS 100; ANALYZE {0};", table_of(m),
                     sql_identifier(column));
}

void advise_on_counters(const Measurement& m, const Findings& findings, Advices& advices) {
  if (!m.facts.counters.stand_still.empty())
    advices.push_back({m.facts.counters.stand_still +
                           ": autovacuum needs the server's counters, and so do the figures here; "
                           "as a superuser, find where it is set and RESET it:",
                       "SELECT setdatabase, setrole::regrole, setconfig FROM "
                       "pg_db_role_setting; SHOW track_counts;"});
  else if (!m.facts.standby && !findings.values[Metric::dead].number)
    advices.push_back(
        {"the server's counters are unreliable until the next vacuum or analyze; this reads a "
         "sample:",
         fmt::format("ANALYZE {};", table_of(m))});
}

void advise_on_statistics(const Measurement& m, const Findings& findings, Advices& advices) {
  const bool missing = m.table.may_read_expire_date && !findings.values[Metric::live].number;
  if (m.table.may_read_expire_date && expire_date_is_never_analyzed(m))
    advices.push_back(
        {"expire_date's statistics target is 0, so ANALYZE passes it over, and the "
         "sessions can't be estimated; as the table's owner:",
         analyze_command(m, "expire_date")});
  else if (missing && !m.statistics.expire_dates.known())
    advices.push_back({"the table has no statistics to estimate from; this reads a sample of it:",
                       fmt::format("ANALYZE {};", table_of(m))});
  else
    advise_on_counters(m, findings, advices);
}

/// The widths of session_key and session_data are hidden from a role that can't read them.
void advise_on_widths(const Measurement& m, const Findings& findings, Advices& advices) {
  const auto hidden = std::find_if(
      m.statistics.columns.begin(), m.statistics.columns.end(), [](const Column& column) {
        return column.length <= 0 && !column.average_width && column.name != "session_key";
      });
  if (hidden != m.statistics.columns.end() && hidden->never_analyzed)
    advices.push_back({fmt::format("{}'s statistics target is 0, so that free space in the table "
                                   "isn't known; as the table's owner:",
                                   hidden->name),
                       analyze_command(m, hidden->name)});
  else if (hidden != m.statistics.columns.end() && m.statistics.expire_dates.known() &&
           findings.reclaimable && findings.reclaimable->at_least)
    advices.push_back(
        {"free space in the table is hidden from this role, so more may be reclaimable; as the "
         "table's owner:",
         roles_script(m)});
}

void advise_on_expired(const Reclaimable& parts, Advices& advices) {
  advices.push_back(
      {fmt::format("expired sessions take about {}: delete them, in the site's folder",
                   size(parts.expired)),
       "python manage.py clearsessions"});
}

/// The table as -T takes it: letters as they are, quotes around a name with a dot or a quote in it.
std::string table_option(const Measurement& m) {
  const auto part = [](const std::string& name) {
    if (name.find_first_of(".\":=") == std::string::npos) return name;
    std::string quoted = "\"";
    for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  };
  return part(m.table.schema) + "." + part(m.table.name);
}

void advise_on_cleanup(const Measurement& m, const Reclaimable& parts, Advices& advices) {
  if (m.facts.standby || (!worth_it(parts.expired, m) && !worth_it(parts.free, m))) return;
  advices.push_back(
      {"an online cleanup deletes what has expired and gives the space back without downtime; look "
       "at its plan, then run it without --dry-run:",
       fmt::format("django_session_cleanup -d {} -T {} --dry-run", shell_word(m.table.database),
                   shell_word(table_option(m)))});
}

void advise_on_abandoned_swap(const Measurement& m, Advices& advices) {
  if (!swap_was_abandoned(m)) return;
  advices.push_back(
      {fmt::format(
           "an interrupted swap left triggers that log each change ({} so far): remove them, "
           "or run the swap again, which resumes it",
           format_quantity(m.table.swap->logged, Unit::rows)),
       fmt::format("django_session_cleanup -d {} -T {} --abort", shell_word(m.table.database),
                   shell_word(table_option(m)))});
}

/// The remedy by hand for space that lies idle inside heap and TOAST.
void advise_on_idle_space(const Measurement& m, std::string what, Advices& advices) {
  advices.push_back({std::move(what) + ": give the space back to the disk; this locks the table, "
                                       "so the site is blocked for the whole rewrite",
                     fmt::format("VACUUM (FULL, ANALYZE) {};", table_of(m))});
}

void advise_on_space(const Measurement& m, const Reclaimable& parts, Advices& advices) {
  const bool expired = worth_it(parts.expired, m);
  const bool free = worth_it(parts.free, m);
  advise_on_cleanup(m, parts, advices);
  if (expired) advise_on_expired(parts, advices);
  if (worth_it(parts.dead, m))
    advices.push_back(
        {fmt::format("dead rows take about {}: make their space usable again; the site stays up",
                     size(parts.dead)),
         fmt::format("VACUUM (ANALYZE) {};", table_of(m))});
  if (free)
    advise_on_idle_space(m,
                         fmt::format("about {} in heap and TOAST is free space{}", size(parts.free),
                                     expired ? ", and more after clearsessions" : ""),
                         advices);
  else if (expired)
    advise_on_idle_space(m, "after clearsessions the files are as large as before", advices);
  if (worth_it(parts.bloat, m))
    advices.push_back(
        {fmt::format("half-empty index pages take about {}: rebuild the indexes; the site stays up",
                     size(parts.bloat)),
         fmt::format("REINDEX TABLE CONCURRENTLY {};", table_of(m))});
}

void advise_on_schedule(const Findings& findings, Advices& advices) {
  const auto& overdue = findings.values[Metric::overdue].number;
  if (!overdue || *overdue < kOverdue) return;
  advices.push_back({fmt::format("the oldest session expired {} ago, so clearsessions doesn't run: "
                                 "schedule it, as a line of the "
                                 "site's crontab",
                                 format_quantity(*overdue, Unit::seconds)),
                     "17 3 * * *  cd /path/to/site && python manage.py clearsessions"});
}

/// Interrupted REINDEX CONCURRENTLY leaves <name>_ccnew or <name>_ccold, with a number if there
/// were several.
bool is_left_over(const std::string& index) {
  const auto end = index.find_last_not_of("0123456789") + 1;
  const std::string_view stem = std::string_view(index).substr(0, end);
  return stem.ends_with("_ccnew") || stem.ends_with("_ccold");
}

void advise_on_invalid_indexes(const Measurement& m, Advices& advices) {
  for (const Index& index : m.table.indexes) {
    if (index.valid) continue;
    const std::string name = sql_table(m.table.schema, index.name);
    if (is_left_over(index.name))
      advices.push_back({fmt::format("index {} ({}) was left by an interrupted REINDEX; unless one "
                                     "is running now, drop it:",
                                     index.name, size(index.bytes)),
                         fmt::format("DROP INDEX CONCURRENTLY {};", name)});
    else
      advices.push_back(
          {fmt::format("index {} ({}) is not valid: its creation failed and no query uses it; "
                       "unless it is being created now, drop it (or finish it with REINDEX INDEX "
                       "CONCURRENTLY):",
                       index.name, size(index.bytes)),
           fmt::format("DROP INDEX CONCURRENTLY {};", name)});
  }
}

void advise_on_missing_index(const Measurement& m, Advices& advices) {
  if (!m.table.expire_date_indexed)
    advices.push_back(
        {"no valid index leads with expire_date, so clearsessions reads the whole table each time",
         fmt::format("CREATE INDEX CONCURRENTLY ON {} (expire_date);", table_of(m))});
}

}  // namespace

std::vector<Advice> diagnose(const Measurement& m, const Findings& findings) {
  Advices advices;
  if (m.locked) {
    advise_on_lock(m, advices);  // whatever else there is to do would wait behind that lock
    return advices;
  }
  if (m.facts.standby)
    advices.push_back({"this server is a standby: run what follows on the primary", ""});
  const std::size_t preface = advices.size();
  advise_on_abandoned_swap(m, advices);
  advise_on_rights(m, advices);
  advise_on_statistics(m, findings, advices);
  advise_on_widths(m, findings, advices);
  if (findings.reclaimable) advise_on_space(m, *findings.reclaimable, advices);
  advise_on_schedule(findings, advices);
  advise_on_invalid_indexes(m, advices);
  advise_on_missing_index(m, advices);
  if (advices.size() == preface) advices.clear();
  return advices;
}

}  // namespace django_session
