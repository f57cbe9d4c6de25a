// One measurement: send the message, read answer by answer, and make the best of it where a
// statement fails.
#include "measure/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/route.hpp"
#include "core/sql_name.hpp"
#include "measure/holders.hpp"
#include "measure/more_rights.hpp"

namespace django_session::sessions {
namespace {

// The database's size rests for this many times its cost: at most 5 % of the time is spent on it.
constexpr int kDatabaseSizeRest = 20;
// Rights, columns and indexes can change without an ANALYZE.
constexpr auto kDefinitionLasts = std::chrono::minutes(10);
// Up to here sessions are counted at each reading: it costs next to nothing, and so few are too few
// for the statistics.
constexpr int kCountUpTo = 2000;
constexpr int kCountUpToWithoutStatistics = 50000;
// Live rows are counted, once for each ANALYZE, where there seem to be no more than this; the count
// itself gives up later.
constexpr double kFewLive = 50000;
constexpr int kCountLiveUpTo = 75000;

// A reading fails for one reason at a time.
constexpr int kAttempts = 3;

pg::Rows rows_of(std::optional<pg::Rows> rows) {
  if (!rows) throw pg::Error(pg::Error::Kind::connection, "the server's answer ended too early");
  return std::move(*rows);
}

pg::Row row_of(std::optional<pg::Rows> rows) {
  pg::Rows all = rows_of(std::move(rows));
  if (all.empty())
    throw pg::Error(pg::Error::Kind::statement, "the table vanished while it was measured");
  return std::move(all.front());
}

std::string describe_relkind(char relkind) {
  switch (relkind) {
    case 'v':
      return "a view";
    case 'm':
      return "a materialized view";
    case 'f':
      return "a foreign table";
    case 'p':
      return "a partitioned table";
    case 'i':
      return "an index";
    case 'S':
      return "a sequence";
    default:
      return "of another kind";
  }
}

void check_it_is_a_session_table(const Definition& d) {
  const std::string name = d.table.full_name();
  if (d.relkind != 'r')
    throw NoSuchTable(fmt::format("{} is {}, not a table", name, describe_relkind(d.relkind)));
  if (!d.has_expire_date)
    throw NoSuchTable(
        fmt::format("{} has no column expire_date: it is not a table of Django sessions", name));
  if (!d.expire_date_is_time)
    throw NoSuchTable(fmt::format(
        "{}.expire_date is not a timestamp: it is not a table of Django sessions", name));
}

/// Where the last reading found many more, or more than can be known, counting would only find that
/// out again.
bool were_few(const std::optional<double>& rows) { return rows && *rows < 2 * kCountUpTo; }

/// Says that what was learned is no longer true: there is no such table, schema or column, or the
/// right to it is gone.
bool says_that_it_has_changed(const pg::Error& error) {
  constexpr std::string_view kNoSchema = "3F000", kNoColumn = "42703";
  return error.sqlstate() == kHasChanged || error.insufficient_privilege() ||
         error.undefined_table() || error.sqlstate() == kNoSchema || error.sqlstate() == kNoColumn;
}

/// Counters that a crash or a standby has emptied say nothing.
bool may_have_dead_rows(const RelationCounters& counters) {
  return counters.dead > 0 || !counters.anchored || !counters.stand_still.empty();
}

/// What is missing after a statement failed, and why.
void explain_gaps(Measurement& m, const pg::Error& error, const Reading& asked) {
  m.locked = error.lock_not_available();
  m.damaged = error.damaged();
  const std::string reason = m.locked ? "the table is locked" : error.what();
  if (m.sizes_are_exact && !m.seen.reason().empty())
    m.seen = Unknown{"reading some of its pages ended: " + reason};
  else if (m.oldest_expire_date || (m.sizes_are_exact && asked.exact && !asked.expire_date_indexed))
    m.not_counted = error.statement_timed_out() ? "counting took too long" : reason;
  else if (m.sizes_are_exact && error.statement_timed_out())
    m.oldest_expire_date = Unknown{
        may_have_dead_rows(m.facts.counters)
            ? "finding the oldest took too long: the index is full of deleted rows until the next "
              "VACUUM"
            : "finding the oldest took too long"};
  else
    m.oldest_expire_date = Unknown{reason};
}

}  // namespace

Reckoned Probe::measure(pg::Deadline deadline) {
  const bool kept = connection_ && connection_->usable();
  try {
    return measure_once(deadline);
  } catch (const pg::Error& error) {
    if (error.untranslatable_character()) {
      connector_.take_bytes_as_they_are();
      connection_.reset();
    } else if (!kept || error.kind() != pg::Error::Kind::connection) {
      throw;  // else the kept connection was dead: a server restarted, or a firewall forgot us
    }
  }
  return measure_once(deadline);
}

Reckoned Probe::measure_once(pg::Deadline deadline) {
  reading_began_ = Clock::now();
  if (!connection_ || !connection_->usable()) {
    connection_ = connector_.connect(deadline);
    definition_.reset();
    search_path_.reset();
    statistics_function_failed_ = false;
    backend_is_ours_.reset();
    prepared_.begin();
  }
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (definition_is_stale()) learn_definition(deadline);
    prepare(deadline);
    if (auto reckoned = read(deadline)) return std::move(*reckoned);
    definition_.reset();  // dropped, renamed, recreated, or its indexes were; or the statistics'
                          // function failed, or what was prepared did
  }
  throw pg::Error(pg::Error::Kind::statement,
                  fmt::format("{} changed while it was measured", table_.display()));
}

/// In a message in which none of the table owner's code runs, and not while the table is locked.
void Probe::prepare(pg::Deadline deadline) try {
  if (!went_through_) return;
  const std::string statements = prepared_.preparation();
  if (statements.empty()) return;
  if (!backend_is_ours_) backend_is_ours_ = !connection_->is_pooled(deadline);
  if (!*backend_is_ours_) return prepared_.end();
  const pg::Rows rows =
      connection_->run(preparation_message(statements, deadline.remaining()), deadline);
  prepared_.prepared(row_of(rows));
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
}

bool Probe::definition_is_stale() const {
  // Someone who waits for a GRANT to take effect looks at once.
  if (definition_ && !definition_->table.may_read_expire_date) return true;
  return !definition_ || analyzed_since_ || Clock::now() - definition_learned_ > kDefinitionLasts;
}

std::string Probe::question_of_rights(pg::Deadline deadline) {
  std::vector<std::string> catalogs;
  for (const pg::Row& row : connection_->run(grants_message(deadline.remaining()), deadline))
    catalogs.push_back(row.text("name"));
  return more_rights(catalogs);
}

void Probe::learn_definition(pg::Deadline deadline) {
  const std::string schema = table_.schema.empty() ? "" : connection_->literal(table_.schema);
  const std::string rights = question_of_rights(deadline);
  const std::string path = search_path_ ? connection_->literal(*search_path_) : "";
  connection_->send(definition_message(schema, connection_->literal(table_.table), path, rights,
                                       deadline.remaining()),
                    deadline);
  search_path_ = row_of(connection_->next_rows(deadline)).text("search_path");
  connection_->next_rows(deadline);  // its schemas
  const pg::Rows found = rows_of(connection_->next_rows(deadline));
  if (found.empty()) explain_missing_table(deadline);
  const pg::Rows indexes = rows_of(connection_->next_rows(deadline));
  definition_ = read_definition(found.front(), indexes);
  definition_->more_rights = rights;
  check_it_is_a_session_table(*definition_);
  definition_learned_ = Clock::now();
  statistics_are_due_ = true;
  calibration_is_due_ = counting_ == Counting::calibrate;
  sample_is_due_ = false;
  analyzed_since_ = false;
}

void Probe::explain_missing_table(pg::Deadline deadline) {
  const std::vector<std::string> tables = session_tables(deadline);
  const bool elsewhere =
      table_.schema.empty() && std::any_of(tables.begin(), tables.end(), [&](const auto& name) {
        return name.ends_with("." + table_.table);
      });
  throw NoSuchTable(fmt::format(
      "no table {} in {}{}", table_.display(),
      elsewhere ? "this role's search_path" : "this database",
      tables.empty() ? " (and none that looks like Django's session table)"
                     : fmt::format("; session tables here: {}", fmt::join(tables, ", "))));
}

/// Not where we can do more than its owner: it is his, and he may have made it run with our rights
/// since we looked.
bool Probe::asks_statistics_function() const {
  const Definition& d = *definition_;
  return statistics_are_due_ && !d.statistics_function.empty() && d.table.may_use_schema &&
         !d.has_more_rights && !statistics_function_failed_;
}

std::string Probe::statistics_source() const {
  const Definition& d = *definition_;
  if (!statistics_are_due_) return "";
  if (asks_statistics_function()) return function_statistics(d.statistics_function, d.table.oid);
  return own_statistics(connection_->literal(d.table.schema), connection_->literal(d.table.name));
}

/// How far to count the live rows for once; 0 where they are too many, or the statistics aren't
/// here yet.
int Probe::calibration_limit() const {
  const Definition& d = *definition_;
  const ValueDistribution& dates = d.statistics.expire_dates;
  if (!calibration_is_due_ || statistics_are_due_ || !last_ || !dates.known() ||
      !d.table.expire_date_indexed)
    return 0;
  const double expected = d.tuples * (1 - dates.fraction_before(last_->facts.now));
  return expected <= kFewLive ? kCountLiveUpTo : 0;
}

double Probe::changes_to_bear() const {
  if (sample_is_due_) return -1;
  return counting_ == Counting::calibrate ? kUsualChanges : kFewChanges;
}

/// After what moves the estimate: many changes, and a VACUUM, which counts the rows.
bool Probe::calibration_has_aged(const Measurement& m) const {
  const double changed = m.facts.counters.changed.value_or(0) - calibrated_.changed;
  return counting_ == Counting::calibrate &&
         (m.facts.last_vacuum != calibrated_.vacuum ||
          changed > kFewChanges * m.facts.counters.live + kCountUpTo);
}

Reading Probe::make_reading(pg::Deadline deadline) const {
  const Definition& d = *definition_;
  const SessionTable& table = d.table;
  Reading reading;
  reading.oid = table.oid;
  reading.toast_oid = d.toast_oid;
  for (const Index& index : table.indexes) reading.index_oids.push_back(index.oid);
  reading.table = connection_->identifier(table.schema) + "." + connection_->identifier(table.name);
  reading.schema_literal = connection_->literal(table.schema);
  reading.table_literal = connection_->literal(table.name);
  reading.owner_literal = connection_->literal(table.owner);
  reading.more_rights = d.more_rights;
  reading.may_read_expire_date = table.may_read_expire_date;
  reading.expire_date_indexed = table.expire_date_indexed;
  reading.expire_date_has_zone = d.expire_date_has_zone;
  const bool analyzed = d.statistics.expire_dates.known() || (statistics_are_due_ && d.tuples > 0);
  reading.count_expired = statistics_are_due_ || were_few(last_expired_);
  reading.count_live = statistics_are_due_ || were_few(last_live_);
  reading.count_up_to = analyzed ? kCountUpTo : kCountUpToWithoutStatistics;
  reading.calibrate_up_to = calibration_limit();
  reading.changes_to_bear = changes_to_bear();
  reading.exact = counting_ == Counting::exact;
  reading.statistics = statistics_source();
  if (asks_statistics_function()) {
    reading.function_oid = d.statistics_oid;
    reading.function_literal = connection_->literal(d.statistics_function);
  }
  reading.database_size = Clock::now() >= database_size_due_;
  reading.budget = deadline.remaining();
  return reading;
}

/// Why the rows can't be read without running someone else's code with rights that its author
/// lacks; empty if they can, and then the guard's transaction may be open, with its locks, for the
/// reading.
std::string Probe::why_rows_stay_unread(Reading& reading, pg::Deadline deadline) {
  const Definition& d = *definition_;
  if (!reading.may_read_expire_date) return "";
  if (d.row_security) return fmt::format("row security hides rows from role {}", d.table.role);
  if (!d.has_more_rights) return "";
  const std::string reason = foreign_code(reading, deadline);
  if (reason.empty()) {
    reading.guarded = true;
    return "";
  }
  return fmt::format(
      "not read as role {}, which can do more than the table's owner: {}; run it as {}, or as the "
      "monitor of roles.sql",
      d.table.role, reason, d.table.owner);
}

std::string Probe::foreign_code(const Reading& reading, pg::Deadline deadline) {
  const Definition& d = *definition_;
  const bool lock = d.may_lock && !d.standby;
  if (d.could_rule_the_server && !lock)
    return "without a lock (on a standby there is none) the owner's code can't be kept out";
  const Guard guard{reading.oid,           reading.table, reading.schema_literal,
                    reading.table_literal, lock,          d.table.role_is_superuser};
  try {
    const pg::Rows found = connection_->run(guard_message(guard, deadline.remaining()), deadline);
    if (found.empty()) return "";
    connection_->run("ROLLBACK", deadline);
    return found.front().text("reason");
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    return error.lock_not_available() ? "another session holds the lock that keeps code out"
                                      : error.what();
  }
}

std::optional<Reckoned> Probe::read(pg::Deadline deadline) {
  Reading asked = make_reading(deadline);
  const std::string unread = why_rows_stay_unread(asked, deadline);
  if (!unread.empty()) asked.may_read_expire_date = false;
  PreparedStatements none;
  PreparedStatements& prepared = asked.guarded || asks_function(asked) ? none : prepared_;
  connection_->send(reading_message(asked, prepared), deadline);
  database_size_is_coming_ = asked.database_size;
  Reckoned reckoned;
  Measurement& m = reckoned.measurement;
  try {
    if (prepared.verifies() && !is_as_prepared(deadline)) return std::nullopt;
    if (!read_answers(asked, m, deadline)) return std::nullopt;
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    if (prepared_.give_up(error)) return std::nullopt;
    if (asks_statistics_function()) {
      statistics_function_failed_ = true;
      return std::nullopt;
    }
    if (error.insufficient_privilege() && definition_learned_ < reading_began_)
      return std::nullopt;  // a REVOKE since we looked: what is missing has better words then
    if (m.facts.now == 0) throw;
    explain_gaps(m, error, asked);
    ask_after_failure(asked, m, deadline);
  }
  if (!unread.empty() && !m.locked) {
    m.oldest_expire_date = Unknown{unread};
    m.seen = Unknown{unread};
    if (asked.exact) m.not_counted = unread;
  }
  if (!m.sizes_are_exact) use_last_sizes(m);
  reckoned.findings = evaluate(m);
  learn_from(reckoned, !asked.statistics.empty());
  database_size_awaited_ = Clock::now();
  return reckoned;
}

/// What the next reading is to ask.
void Probe::learn_from(const Reckoned& reckoned, bool with_statistics) {
  const Measurement& m = reckoned.measurement;
  if (with_statistics)
    definition_analyzed_ = m.facts.last_analyze;
  else
    analyzed_since_ = definition_analyzed_ != m.facts.last_analyze;
  went_through_ = m.sizes_are_exact;
  if (went_through_) last_ = m;
  calibration_is_due_ = calibration_is_due_ || calibration_has_aged(m);
  sample_is_due_ = sample_is_due_ || reckoned.findings.contradicted;
  if (!went_through_ || !m.oldest_expire_date)
    return;  // a lock says nothing about how many there are
  last_live_ = reckoned.findings.values[Metric::live].number;
  last_expired_ = reckoned.findings.values[Metric::expired].number;
}

/// Else all is sent as it is from now on.
bool Probe::is_as_prepared(pg::Deadline deadline) {
  if (is_still_harmless(deadline)) return true;
  prepared_.end();
  return false;
}

bool Probe::is_still_harmless(pg::Deadline deadline) try {
  rows_of(connection_->next_rows(deadline));
  return true;
} catch (const pg::Error& error) {
  if (says_that_it_has_changed(error)) return false;
  throw;
}

bool Probe::read_answers(const Reading& asked, Measurement& m, pg::Deadline deadline) {
  const auto next = [&] { return connection_->next_rows(deadline); };
  if (asks_function(asked) && !is_still_harmless(deadline)) return false;
  const auto facts = read_facts(rows_of(next()), *definition_);
  if (!facts) return false;
  m = begin_measurement(*definition_, *facts);
  if (!asked.statistics.empty()) {
    m.statistics = definition_->statistics = read_statistics(rows_of(next()));
    statistics_are_due_ = false;
  }
  if (asks_unguarded(asked) && !(is_still_harmless(deadline) && is_still_harmless(deadline)))
    return false;
  const pg::Row sizes = row_of(next());
  if (sizes.text("index_sizes").find("NULL") != std::string::npos) return false;  // one is gone
  read_sizes(sizes, m);
  if (!asked.may_read_expire_date) return true;
  if (asked.expire_date_indexed) read_expiry(row_of(next()), m);
  if (asked.exact) read_counts(row_of(next()), m);
  if (asked.calibrate_up_to > 0) read_counts(row_of(next()), m);
  if (asks_sample(asked)) {
    m.seen = Unknown{"not yet"};
    read_sample(row_of(next()), m);
  }
  if (asked.calibrate_up_to > 0) calibrate_by(m);
  return true;
}

/// Once all is read: where the server's counters are in doubt, the number of rows is the sample's.
void Probe::calibrate_by(Measurement& m) {
  calibration_is_due_ = false;
  calibrated_ = {m.facts.last_vacuum, m.facts.counters.changed.value_or(0)};
  calibrate(m, definition_->statistics.expire_dates);
  m.statistics = definition_->statistics;
}

void Probe::ask_after_failure(const Reading& asked, Measurement& m, pg::Deadline deadline) {
  connection_->send(after_failure_message(asked), deadline);
  database_size_is_coming_ = false;
  const LockQueue lock = read_lock_queue(rows_of(connection_->next_rows(deadline)));
  if (m.locked) m.lock = lock;
  database_size_is_coming_ = asked.database_size;
}

void Probe::use_last_sizes(Measurement& m) const {
  if (!last_ || last_->table.full_name() != m.table.full_name()) {
    if (m.facts.counters.catalog_pages == 0)
      m.sizes_unknown = (m.locked ? "the table is locked" : m.oldest_expire_date.reason()) +
                        ", and the catalogue has no size before the first VACUUM or ANALYZE";
    return;
  }
  m.heap_bytes = last_->heap_bytes;
  m.table_bytes = last_->table_bytes;
  m.toast_heap_bytes = last_->toast_heap_bytes;
  m.toast_index_bytes = last_->toast_index_bytes;
  for (Index& index : m.table.indexes) {
    const auto same =
        std::find_if(last_->table.indexes.begin(), last_->table.indexes.end(),
                     [&](const Index& candidate) { return candidate.oid == index.oid; });
    if (same != last_->table.indexes.end()) index.bytes = same->bytes;
  }
}

void Probe::measure_database(Reckoned& reckoned, pg::Deadline deadline) {
  if (std::exchange(database_size_is_coming_, false)) {
    database_bytes_ = read_database_size(deadline);
    const auto now = Clock::now();
    database_size_due_ = now + kDatabaseSizeRest * (now - database_size_awaited_);
  }
  reckoned.measurement.database_bytes = database_bytes_;
  evaluate_database(reckoned.measurement, reckoned.findings.values);
}

Known<double> Probe::read_database_size(pg::Deadline deadline) try {
  connection_->next_rows(deadline);  // the filler
  return row_of(connection_->next_rows(deadline)).number("bytes").value();
} catch (const pg::Error& error) {
  const bool too_long = error.kind() == pg::Error::Kind::timeout || error.statement_timed_out();
  return Unknown{too_long ? "pg_database_size took too long" : error.what()};
}

std::vector<std::string> Probe::session_tables(pg::Deadline deadline) {
  if (!connection_) return {};
  std::vector<std::string> tables;
  for (const pg::Row& row : connection_->run(candidates_message(deadline.remaining()), deadline))
    tables.push_back(table_word(row.text("schema"), row.text("table")));
  return tables;
}

std::vector<TableSize> Probe::largest_tables(pg::Deadline deadline) {
  if (!connection_) return {};
  std::vector<TableSize> tables;
  for (const pg::Row& row :
       connection_->run(largest_tables_message(deadline.remaining()), deadline))
    tables.push_back({row.text("schema"), row.text("table"), row.number("bytes").value_or(0)});
  return tables;
}

std::optional<Holder> Probe::oldest_dead_row_holder(pg::Deadline deadline) {
  if (!connection_) return std::nullopt;
  const pg::Rows rows = connection_->run(dead_row_holders_message(deadline.remaining()), deadline);
  if (rows.empty()) return std::nullopt;
  return read_holder(rows.front());
}

}  // namespace django_session::sessions
