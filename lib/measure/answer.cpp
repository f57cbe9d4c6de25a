// Reading the answers, column by column.
#include "measure/answer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>
#include <stdexcept>

#include "core/quantity.hpp"
#include "core/sql_name.hpp"

namespace django_session::sessions {
namespace {

constexpr double kPage = 8192;

constexpr pg::Bounds kFillfactor{10, 100};  // percent

double amount_or(const pg::Row& row, const std::string& column, double otherwise) {
  return row.number(column, pg::kAmount).value_or(otherwise);
}

/// reltuples and relpages: since PostgreSQL 18 who may MAINTAIN a table can set both to anything.
double tuples_in(const pg::Row& row, const std::string& column) {
  const double tuples = row.number(column).value_or(-1);
  return std::isfinite(tuples) ? tuples : -1;
}

double pages_in(const pg::Row& row, const std::string& column) {
  const double pages = row.number(column).value_or(0);
  return std::isfinite(pages) ? std::max(0.0, pages) : 0;
}

Column read_column(const pg::Row& row) {
  constexpr pg::Bounds kLength{-2, 32767}, kAlignment{1, 8}, kDistinct{-1, 1e15};
  return {row.text("name"),
          row.number("length", kLength).value_or(-1),
          row.number("alignment", kAlignment).value_or(1),
          row.number("average_width", pg::kAmount),
          row.number("null_fraction", pg::kShare).value_or(0),
          row.number("n_distinct", kDistinct).value_or(0),
          row.flag("never_analyzed")};
}

Index read_index(const pg::Row& row) {
  Index index;
  index.name = row.text("name");
  index.oid = row.oid("oid");
  index.bytes = pages_in(row, "relpages") * kPage;
  index.valid = row.flag("valid");
  index.unique = row.flag("unique");
  index.fillfactor = row.number("fillfactor", kFillfactor).value_or(90);
  index.plain_btree = row.flag("plain_btree");
  index.columns = row.lines("columns");
  return index;
}

/// The comment on its state table says "django_session_cleanup, keeping 0 s, started 2026-01-02
/// 03:04:05Z"; anyone may have edited it.
SwapUnderWay read_swap(const pg::Row& row) {
  SwapUnderWay swap;
  swap.logged = amount_or(row, "swap_logged", 0);
  swap.runs = row.flag("swap_runs");
  const std::string comment = row.text("swap_comment");
  const auto started = comment.rfind("started "), keeping = comment.rfind("keeping ");
  std::tm time{};
  if (started != std::string::npos &&
      strptime(comment.c_str() + started, "started %Y-%m-%d %H:%M:%SZ", &time) != nullptr)
    swap.started = static_cast<double>(timegm(&time));
  long long seconds = 0;
  if (keeping != std::string::npos &&
      std::sscanf(comment.c_str() + keeping, "keeping %10lld s,", &seconds) == 1 && seconds > 0)
    swap.keep_seconds = static_cast<double>(seconds);
  return swap;
}

bool has_indexes(const SessionTable& table, const std::vector<double>& oids) {
  return oids.size() == table.indexes.size() &&
         std::all_of(table.indexes.begin(), table.indexes.end(), [&oids](const Index& index) {
           return std::find(oids.begin(), oids.end(), index.oid.number()) != oids.end();
         });
}

SessionTable read_table(const pg::Row& row, const pg::Rows& indexes) {
  SessionTable table;
  table.oid = row.oid("oid");
  table.database = row.text("database");
  table.schema = row.text("schema");
  table.name = row.text("table");
  table.owner = row.text("owner");
  table.role = row.text("role");
  table.fillfactor = row.number("fillfactor", kFillfactor).value_or(100);
  table.may_use_schema = row.flag("may_use_schema");
  table.may_read_expire_date = table.may_use_schema && row.flag("may_read_expire_date");
  table.hides_rows = row.flag("row_security");
  std::transform(indexes.begin(), indexes.end(), std::back_inserter(table.indexes), read_index);
  table.expire_date_indexed =
      std::any_of(table.indexes.begin(), table.indexes.end(), is_plain_index_on_expire_date);
  if (row.flag("swap_logs")) table.swap = read_swap(row);
  return table;
}

char letter(const pg::Row& row, const std::string& column) {
  const std::string text = row.text(column);
  if (text.empty()) throw std::runtime_error(fmt::format("column {} is empty", column));
  return text.front();
}

/// `prefix`: of the columns' names, "toast_" for the TOAST table's.
RelationCounters read_counters(const pg::Row& row, const std::string& prefix) {
  RelationCounters counters;
  counters.tuples = tuples_in(row, prefix + "reltuples");
  counters.catalog_pages = pages_in(row, prefix + "relpages");
  counters.live = amount_or(row, prefix + "live", 0);
  counters.dead = amount_or(row, prefix + "dead", 0);
  counters.inserted = amount_or(row, prefix + "inserted", 0);
  return counters;
}

/// "pid 4711 (role admin, psql), VACUUM FULL, for 90 s", by columns whose names begin so.
std::string process(const pg::Row& row, const std::string& prefix, const std::string& does) {
  std::string text = "pid " + row.text(prefix.empty() ? "pid" : "head");
  const std::string role = row.text(prefix + "role"), program = row.text(prefix + "application");
  if (!role.empty())
    text += fmt::format(" (role {}{}{})", role, program.empty() ? "" : ", ", program);
  if (!does.empty()) text += ", " + does;
  if (const auto age = row.number(prefix + "age"))
    text += ", for " + format_quantity(*age, Unit::seconds);
  return text;
}

}  // namespace

Definition read_definition(const pg::Row& row, const pg::Rows& indexes) {
  Definition definition;
  definition.table = read_table(row, indexes);
  definition.schema_oid = row.oid("schema_oid");
  definition.toast_oid = row.oid("toast_oid");
  definition.toast_index_pages = pages_in(row, "toast_index_pages");
  definition.relkind = letter(row, "relkind");
  definition.has_expire_date = row.flag("has_expire_date");
  definition.expire_date_is_time = row.flag("expire_date_is_time");
  definition.expire_date_has_zone = row.flag("expire_date_has_zone");
  definition.row_security = row.flag("row_security");
  definition.table.role_is_superuser = row.flag("is_superuser");
  definition.has_more_rights = row.flag("has_more_rights");
  definition.could_rule_the_server = row.flag("could_rule_the_server");
  definition.may_lock = row.flag("may_lock");
  definition.standby = row.flag("standby");
  definition.statistics_oid = row.oid("statistics_oid");
  if (definition.statistics_oid) definition.statistics_function = row.text("statistics_function");
  definition.tuples = tuples_in(row, "reltuples");
  return definition;
}

std::optional<ServerFacts> read_facts(const pg::Rows& rows, const Definition& definition) {
  if (rows.empty()) return std::nullopt;
  const pg::Row& row = rows.front();
  const bool same_table = row.text("table") == definition.table.name &&
                          row.oid("schema_oid") == definition.schema_oid &&
                          row.oid("toast_oid") == definition.toast_oid;
  if (!same_table || !has_indexes(definition.table, row.numbers("index_oids"))) return std::nullopt;
  ServerFacts facts;
  facts.now = row.number("now", pg::kMoment).value_or(0);
  facts.standby = row.flag("standby");
  facts.last_vacuum = row.number("last_vacuum", pg::kMoment);
  facts.last_analyze = row.number("last_analyze", pg::kMoment);
  facts.counters = read_counters(row, "");
  facts.counters.stand_still = row.text("counters_stand_still");
  facts.counters.anchored = facts.last_vacuum || facts.last_analyze;
  if (facts.last_analyze) facts.counters.changed = row.number("changed", pg::kAmount);
  facts.toast_counters = read_counters(row, "toast_");
  facts.toast_counters.anchored = row.flag("toast_anchored");
  facts.rows_inserted = facts.counters.inserted;
  facts.rows_updated = amount_or(row, "updated", 0);
  facts.rows_deleted = amount_or(row, "deleted", 0);
  return facts;
}

Measurement begin_measurement(const Definition& definition, const ServerFacts& facts) {
  Measurement m;
  m.table = definition.table;
  m.statistics = definition.statistics;
  m.facts = facts;
  m.heap_bytes = m.table_bytes = facts.counters.catalog_pages * kPage;
  m.toast_heap_bytes = facts.toast_counters.catalog_pages * kPage;
  m.toast_index_bytes = definition.toast_index_pages * kPage;
  return m;
}

void read_sizes(const pg::Row& row, Measurement& m) {
  m.heap_bytes = amount_or(row, "heap", 0);
  // The table may have grown between the two.
  m.table_bytes = std::max(m.heap_bytes, amount_or(row, "table", 0));
  m.toast_heap_bytes = amount_or(row, "toast_heap", 0);
  m.toast_index_bytes = amount_or(row, "toast_index", 0);
  m.sizes_are_exact = true;
  const std::vector<double> sizes = row.numbers("index_sizes", pg::kAmount);
  if (sizes.size() < m.table.indexes.size())
    throw std::runtime_error("column index_sizes lacks an index");
  for (std::size_t i = 0; i < m.table.indexes.size(); ++i) m.table.indexes[i].bytes = sizes[i];
}

void read_expiry(const pg::Row& row, Measurement& m) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();  // those that never expire
  m.oldest_expire_date = row.number("oldest", {pg::kMoment.least, kInfinity});
  if (m.oldest() && *m.oldest() < m.facts.now) m.least_expired = 1;
  read_counts(row, m);
}

void read_sample(const pg::Row& row, Measurement& m) {
  m.seen = Unknown{};
  if (!row.flag("sampled")) return;
  constexpr pg::Bounds kPartOfTheTable{1e-9, 1};
  const double rows = amount_or(row, "rows", 0);
  m.seen = RowSample{row.number("share", kPartOfTheTable).value_or(1), rows,
                     row.number("expired", {0, rows}).value_or(0)};
}

void read_counts(const pg::Row& row, Measurement& m) {
  const auto limit = row.number("count_limit", pg::kAmount);
  const auto read = [&](const char* kind, std::optional<double>& counted, double& least) {
    const auto count = row.number(kind, pg::kAmount);
    if (count && (!limit || *count <= *limit)) counted = count;
    least = std::max(least, count.value_or(0));
  };
  read("expired", m.counted_expired, m.least_expired);
  read("live", m.counted_live, m.least_live);
}

void calibrate(const Measurement& m, ValueDistribution& distribution) {
  distribution.counted.reset();
  const auto rows =
      estimate_rows(m.facts.counters, m.heap_bytes / kPage, m.seen.as_optional()).rows;
  if (!m.counted_live || !rows || *m.counted_live > *rows) return;
  const double known =
      rows_of_statistics(*rows, distribution, m.facts.now, m.oldest(), m.facts.counters);
  const double expired = *rows - *m.counted_live;
  distribution.agree_with(known > 0 ? std::min(1.0, expired / known) : 0, m.facts.now, m.oldest());
  distribution.counted->changes = m.facts.counters.changed.value_or(0);
}

PlannerStatistics read_statistics(const pg::Rows& rows) {
  PlannerStatistics statistics;
  for (const pg::Row& row : rows) {
    statistics.columns.push_back(read_column(row));
    if (statistics.columns.back().name != "expire_date") continue;
    statistics.expire_dates.null_fraction = statistics.columns.back().null_fraction;
    statistics.expire_dates.common_values = row.numbers("common_values");
    statistics.expire_dates.common_frequencies = row.numbers("common_frequencies", pg::kShare);
    statistics.expire_dates.histogram = row.numbers("histogram");
  }
  return statistics;
}

LockQueue read_lock_queue(const pg::Rows& rows) {
  if (rows.empty()) return {};
  const pg::Row& row = rows.front();
  LockQueue lock;
  lock.waited = row.number("waited");
  const std::string prepared = row.text("prepared");
  if (!prepared.empty()) {
    lock.head = "prepared transaction " + prepared;
    lock.end_it = "ROLLBACK PREPARED " + printable_string(prepared);
  } else if (!row.text("head").empty()) {
    lock.head = "pid " + row.text("head");
    lock.end_it = fmt::format("SELECT pg_catalog.pg_terminate_backend({})", row.text("head"));
  }
  if (row.text("pid").empty()) {
    lock.by = lock.head;
    return lock;
  }
  lock.by = process(row, "", row.text("command"));
  if (row.flag("granted")) return lock;
  lock.by += ", which waits";
  if (!lock.head.empty())
    lock.by +=
        " for " + (prepared.empty() ? process(row, "head_", row.text("head_state")) : lock.head);
  return lock;
}

}  // namespace django_session::sessions
