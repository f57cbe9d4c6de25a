// One function for each thing that can be wrong; diagnose() puts them in order.
#include "core/diagnosis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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

/// Who looks into what, and what came of it.
struct Case {
  const Measurement& m;
  const Findings& findings;
  const Route& route;
  const Route& reading;
  std::vector<Advice> advices;

  void add(RunbookSection section, std::string finding, std::string command,
           Advice::Place place = Advice::Place::next) {
    advices.push_back({std::move(finding), std::move(command), place, section});
  }
  void add_sql(RunbookSection section, std::string finding, const std::string& sql,
               Advice::Place place = Advice::Place::next) {
    add(section, std::move(finding), psql_statement(route, sql), place);
  }
};

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

std::string look_at_locks(const Case& c) {
  return fmt::format(
      "SELECT l.pid, l.mode, l.granted, a.usename, a.application_name, a.state, a.xact_start FROM "
      "pg_locks l LEFT JOIN pg_stat_activity a USING (pid) WHERE l.relation = {}::regclass AND "
      "l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
      printable_string(regclass_text(c.m)));
}

/// A standby replays what the primary did under a lock; the site's sessions are not held up.
void advise_on_replay(Case& c) {
  c.add(RunbookSection::locked,
        "on this standby the table is locked by the replay of a change that needs it alone, which "
        "waits for those who read here, for max_standby_streaming_delay at most: wait, or end the "
        "readers" +
            std::string(c.reading.user.empty() ? "" : ". Look who they are:"),
        c.reading.user.empty() ? "" : psql_statement(c.reading, look_at_locks(c)));
}

void advise_on_lock(Case& c) {
  if (c.m.facts.standby) return advise_on_replay(c);
  const LockQueue& lock = c.m.lock;
  const std::string by = lock.by.empty() ? "" : " by " + lock.by;
  const std::string state =
      fmt::format("the table is locked{}: {}; sizes may be out of date until it is free.", by,
                  lock.waited ? "all who read or save a session wait" : "nobody waits yet");
  const std::string look = look_at_locks(c);
  if (lock.end_it.empty())
    return c.add_sql(RunbookSection::locked, state + " Look who has it:", look);
  c.add_sql(
      RunbookSection::locked,
      fmt::format("{} Wait, or end {}, which {}; as its role or a superuser:", state, lock.head,
                  lock.end_it.starts_with("ROLLBACK PREPARED")
                      ? "discards for good what was prepared: ask who did"
                      : "undoes its work"),
      lock.end_it);
  c.add_sql(RunbookSection::locked, "look at all who hold or await it:", look,
            Advice::Place::instead);
}

void advise_on_rights(Case& c) {
  const SessionTable& table = c.m.table;
  const std::string role = sql_identifier(table.role);
  if (!table.may_use_schema)
    c.add_sql(
        RunbookSection::missing_right,
        fmt::format("role {} may not use schema {}; give it the right:", table.role, table.schema),
        fmt::format("GRANT USAGE ON SCHEMA {} TO {}", sql_identifier(table.schema), role));
  else if (!table.may_read_expire_date)
    c.add_sql(RunbookSection::missing_right,
              fmt::format("role {} may not read expire_date, so sessions can't be judged; give it "
                          "the right:",
                          table.role),
              fmt::format("GRANT SELECT (expire_date) ON {} TO {}", table_of(c.m), role));
  else if (table.hides_rows)
    c.add_sql(
        RunbookSection::missing_right,
        fmt::format("row security hides rows from role {}, so sessions can't be judged; let it "
                    "see those of all tables that it may read, as a superuser:",
                    table.role),
        fmt::format("ALTER ROLE {} BYPASSRLS", role));
}

/// Where the statistics target is 0, ANALYZE alone would change nothing.
std::string analyze_statements(const Measurement& m, std::string_view column) {
  return fmt::format("ALTER TABLE {0} ALTER {1} SET STATISTICS 100; ANALYZE {0}", table_of(m),
                     sql_identifier(column));
}

void advise_on_counters(Case& c) {
  const Measurement& m = c.m;
  if (!m.facts.counters.stand_still.empty())
    c.add_sql(RunbookSection::counters,
              m.facts.counters.stand_still +
                  ": autovacuum needs the server's counters, and so do the figures here; as a "
                  "superuser, find where it is set and RESET it:",
              "SELECT setdatabase, setrole::regrole, setconfig, current_setting('track_counts') "
              "FROM pg_db_role_setting");
  else if (!m.facts.standby && !c.findings.values[Metric::dead].number)
    c.add_sql(RunbookSection::counters,
              "the server's counters are unreliable until the next vacuum or analyze; this reads a "
              "sample:",
              fmt::format("ANALYZE {}", table_of(m)));
}

void advise_on_statistics(Case& c) {
  const Measurement& m = c.m;
  const bool missing = m.table.may_read_expire_date && !m.table.hides_rows &&
                       !c.findings.values[Metric::live].number;
  if (m.table.may_read_expire_date && expire_date_is_never_analyzed(m))
    c.add_sql(RunbookSection::no_statistics,
              "expire_date's statistics target is 0, so ANALYZE passes it over, and sessions "
              "are counted only where they are few; give it one:",
              analyze_statements(m, "expire_date"));
  else if (missing && !m.statistics.expire_dates.known())
    c.add_sql(RunbookSection::no_statistics,
              "the table has no statistics to estimate from; this reads a sample of it:",
              fmt::format("ANALYZE {}", table_of(m)));
  else
    advise_on_counters(c);
}

/// The widths of session_key and session_data are hidden from a role that can't read them.
void advise_on_widths(Case& c) {
  const Measurement& m = c.m;
  const auto hidden = std::find_if(
      m.statistics.columns.begin(), m.statistics.columns.end(), [](const Column& column) {
        return column.length <= 0 && !column.average_width && column.name != "session_key";
      });
  if (hidden != m.statistics.columns.end() && hidden->never_analyzed)
    c.add_sql(RunbookSection::no_statistics,
              fmt::format("{}'s statistics target is 0, so that free space in the table isn't "
                          "known; give it one:",
                          hidden->name),
              analyze_statements(m, hidden->name));
  else if (hidden != m.statistics.columns.end() && m.statistics.expire_dates.known() &&
           c.findings.reclaimable && c.findings.reclaimable->at_least)
    c.add(RunbookSection::hidden_space,
          "free space in the table is hidden from this role, so more may be reclaimable; give it "
          "the rights of a monitor:",
          psql_command(c.route,
                       fmt::format("-v table={} -v monitor={} -f {}", shell_word(regclass_text(m)),
                                   shell_word(m.table.role), shell_word(roles_file()))));
}

std::string table_option(const Measurement& m) {
  return "-T " + table_word(m.table.schema, m.table.name);
}

std::string keep_option(const SwapUnderWay& swap) {
  return swap.keep_seconds > 0 ? fmt::format(" --keep {:.0f}s", swap.keep_seconds) : "";
}

void advise_on_abandoned_swap(Case& c) {
  if (!swap_was_abandoned(c.m)) return;
  c.add(
      RunbookSection::interrupted_swap,
      fmt::format("an interrupted swap left triggers that log each change ({} so far): resume it, "
                  "which ends it:",
                  format_quantity(c.m.table.swap->logged, Unit::rows)),
      cleanup_command(c.route,
                      table_option(c.m) + " --method swap" + keep_option(*c.m.table.swap)));
  c.add(RunbookSection::interrupted_swap,
        "remove what it left:", cleanup_command(c.route, table_option(c.m) + " --abort"),
        Advice::Place::instead);
}

std::string freed_online(const Case& c, const Reclaimable& parts) {
  std::string text = fmt::format("clean up online: about {} come free, and the site stays up",
                                 size(parts.expired + parts.dead + parts.free + parts.bloat));
  if (const auto afresh = sizes_afresh(c.m))
    text += fmt::format("; it may need {} of disk meanwhile", size(afresh->total()));
  return text +
         ". Look at the plan, which names another way where this is impossible, then run it "
         "without "
         "--dry-run:";
}

/// VACUUM FULL alone would write the expired sessions again, too.
void advise_full(Case& c, bool expired) {
  const auto afresh = sizes_afresh(c.m);
  const std::string full =
      psql_unless_locked(c.route, fmt::format("VACUUM (FULL, ANALYZE) {}", table_of(c.m)));
  c.add(expired ? RunbookSection::expired : RunbookSection::free_space,
        fmt::format("{}VACUUM FULL, which locks the table: the site stands still while {} written "
                    "again:",
                    expired ? "delete the expired sessions, in the site's folder, then " : "",
                    afresh ? "about " + size(afresh->total()) + " is" : "all that stays is"),
        (expired ? "python manage.py clearsessions && " : "") + full, Advice::Place::instead);
}

/// Before a VACUUM, which would leave them.
void advise_on_holder(Case& c) {
  if (!c.m.dead_rows_held_by) return;
  const Holder& holder = *c.m.dead_rows_held_by;
  const std::string held = fmt::format(
      "VACUUM can't remove what was deleted or changed since this began: {}; ", holder.who);
  if (holder.end_it.empty())
    c.add(RunbookSection::dead_rows, held + "end the long query of the replica that it is for", "");
  else
    c.add_sql(
        RunbookSection::dead_rows,
        held +
            "if nobody needs it (is it a backup, or a migration?), end it first, as its role or a "
            "superuser:",
        holder.end_it);
}

void advise_on_space(Case& c, const Reclaimable& parts) {
  const Measurement& m = c.m;
  const bool expired = worth_it(parts.expired, m), free = worth_it(parts.free, m),
             dead = worth_it(parts.dead, m), online = expired || free;
  const std::string swap = cleanup_command(c.route, table_option(m) + " --method swap --dry-run");
  const auto place = online ? Advice::Place::instead : Advice::Place::next;
  if (online)
    c.add(expired ? RunbookSection::expired : RunbookSection::free_space, freed_online(c, parts),
          swap);
  if (expired)
    c.add(RunbookSection::expired,
          fmt::format("delete the expired sessions, about {}, in the site's folder; the files stay "
                      "as large as they are:",
                      size(parts.expired)),
          "python manage.py clearsessions", place);
  if (dead && !online) advise_on_holder(c);
  if (dead)
    c.add_sql(RunbookSection::dead_rows,
              fmt::format("dead rows take about {}: VACUUM makes it free for new rows; the site "
                          "stays up, and the files stay as large as they are:",
                          size(parts.dead)),
              fmt::format("VACUUM (ANALYZE) {}", table_of(m)), place);
  if (worth_it(parts.bloat, m))
    c.add_sql(RunbookSection::index_bloat,
              fmt::format("half-empty index pages take about {}: rebuild the indexes; the site "
                          "stays up:",
                          size(parts.bloat)),
              fmt::format("REINDEX TABLE CONCURRENTLY {}", table_of(m)), place);
  if (dead && !online)
    c.add(RunbookSection::dead_rows, freed_online(c, parts), swap, Advice::Place::instead);
  if (online) advise_full(c, expired);
}

bool is_of_the_tables_size(Metric metric) {
  switch (metric) {
    case Metric::table:
    case Metric::toast:
    case Metric::indexes:
    case Metric::total:
    case Metric::database_percent:
    case Metric::live:
      return true;
    default:
      return false;
  }
}

/// No cleanup helps: what is large is in use.
void advise_on_live_sessions(Case& c, const std::vector<Metric>& alerting) {
  const auto& live = c.findings.values[Metric::live].number;
  if (!live || std::none_of(alerting.begin(), alerting.end(), is_of_the_tables_size)) return;
  const std::string look =
      c.reading.user.empty()
          ? ""
          : psql_statement(c.reading,
                           fmt::format("SELECT expire_date::date AS expire, count(*) AS sessions "
                                       "FROM {} GROUP BY 1 ORDER BY 1",
                                       table_of(c.m)));
  c.add(RunbookSection::large,
        fmt::format("{} sessions are live, and cleaning gives next to nothing back. Raise the "
                    "threshold; or have fewer made, for a shorter time (SESSION_COOKIE_AGE): man 7 "
                    "django_session, STOPPING IT AT THE ROOT{}",
                    format_quantity(*live, Unit::rows),
                    look.empty() ? "" : ". This shows when they expire:"),
        look);
}

void advise_on_schedule(Case& c) {
  const auto& overdue = c.findings.values[Metric::overdue].number;
  if (!overdue || *overdue < kOverdue) return;
  // Else there is a way to delete them already.
  const bool few = c.findings.reclaimable && !worth_it(c.findings.reclaimable->expired, c.m);
  if (few && !swap_was_abandoned(c.m))
    c.add(RunbookSection::overdue,
          "delete the expired sessions, which are few, in the site's folder:",
          "python manage.py clearsessions");
  c.add(RunbookSection::overdue,
        fmt::format("the oldest session expired {} ago, so clearsessions doesn't run: schedule it, "
                    "as a line of the site's crontab:",
                    format_quantity(*overdue, Unit::seconds)),
        "17 3 * * *  cd /path/to/site && /path/to/venv/bin/python manage.py clearsessions",
        Advice::Place::then);
}

/// Interrupted REINDEX CONCURRENTLY leaves <name>_ccnew or <name>_ccold, with a number if there
/// were several.
bool is_left_over(const std::string& index) {
  const auto end = index.find_last_not_of("0123456789") + 1;
  const std::string_view stem = std::string_view(index).substr(0, end);
  return stem.ends_with("_ccnew") || stem.ends_with("_ccold");
}

void advise_on_invalid_indexes(Case& c) {
  for (const Index& index : c.m.table.indexes) {
    if (index.valid) continue;
    const std::string drop =
        fmt::format("DROP INDEX CONCURRENTLY {}", sql_table(c.m.table.schema, index.name));
    if (is_left_over(index.name))
      c.add_sql(RunbookSection::invalid_index,
                fmt::format("index {} ({}) was left by an interrupted REINDEX; unless one is "
                            "running now, drop it:",
                            index.name, size(index.bytes)),
                drop);
    else
      c.add_sql(
          RunbookSection::invalid_index,
          fmt::format("index {} ({}) is not valid: its creation failed and no query uses it; "
                      "unless it is being created now, drop it (or finish it with REINDEX INDEX "
                      "CONCURRENTLY):",
                      index.name, size(index.bytes)),
          drop);
  }
}

/// What reads expire_date goes by its index first.
void advise_on_damage(Case& c) {
  const auto& indexes = c.m.table.indexes;
  const auto index = std::find_if(indexes.begin(), indexes.end(), is_plain_index_on_expire_date);
  if (index != indexes.end())
    c.add_sql(
        RunbookSection::unknown_value,
        "what a reading needs is damaged, and each cleanup would fail: rebuild the index on "
        "expire_date; if that fails, too, the table itself is damaged:",
        fmt::format("REINDEX INDEX CONCURRENTLY {}", sql_table(c.m.table.schema, index->name)));
}

void advise_on_missing_index(Case& c) {
  if (!c.m.table.expire_date_indexed)
    c.add_sql(
        RunbookSection::missing_index,
        "no valid index leads with expire_date, so clearsessions reads the whole table each time:",
        fmt::format("CREATE INDEX CONCURRENTLY ON {} (expire_date)", table_of(c.m)));
}

}  // namespace

std::vector<Advice> diagnose(const Measurement& m, const Findings& findings, const Route& route,
                             const std::vector<Metric>& alerting, const Route& reading) {
  Case c{m, findings, route, reading, {}};
  if (m.locked) {
    advise_on_lock(c);  // whatever else there is to do would wait behind that lock
    return c.advices;
  }
  if (m.facts.standby)
    c.add(RunbookSection::standby, "this server is a standby: run what follows on the primary", "");
  const std::size_t preface = c.advices.size();
  advise_on_rights(c);  // without them the rest is half known
  advise_on_abandoned_swap(c);
  advise_on_invalid_indexes(c);  // with one of them, or without an index, a cleanup is refused
  advise_on_missing_index(c);
  if (m.damaged) {
    advise_on_damage(c);
    return c.advices;
  }
  if (findings.reclaimable && !swap_was_abandoned(m)) {
    const std::size_t before = c.advices.size();
    advise_on_space(c, *findings.reclaimable);
    if (c.advices.size() == before) advise_on_live_sessions(c, alerting);
  }
  advise_on_statistics(c);
  advise_on_widths(c);
  advise_on_schedule(c);
  if (c.advices.size() == preface) c.advices.clear();
  return c.advices;
}

}  // namespace django_session
