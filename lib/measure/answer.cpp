// Reading the answers, column by column.
#include "measure/answer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace django_session::sessions {
namespace {

constexpr double kPage = 8192;

double number_or(const pg::Row& row, const std::string& column, double otherwise) {
  return row.number(column).value_or(otherwise);
}

Column read_column(const pg::Row& row) {
  return {row.text("name"),
          number_or(row, "length", -1),
          number_or(row, "alignment", 1),
          row.number("average_width"),
          number_or(row, "null_fraction", 0),
          number_or(row, "n_distinct", 0),
          row.flag("never_analyzed")};
}

Index read_index(const pg::Row& row) {
  Index index;
  index.name = row.text("name");
  index.oid = number_or(row, "oid", 0);
  index.bytes = number_or(row, "relpages", 0) * kPage;
  index.valid = row.flag("valid");
  index.unique = row.flag("unique");
  index.fillfactor = number_or(row, "fillfactor", 90);
  index.plain_btree = row.flag("plain_btree");
  index.columns = row.lines("columns");
  return index;
}

/// From the comment on the swap's state table: "django_session_cleanup, started 2026-01-02
/// 03:04:05Z".
std::optional<double> start_of_swap(const std::string& comment) {
  const auto at = comment.rfind("started ");
  std::tm time{};
  if (at == std::string::npos ||
      strptime(comment.c_str() + at, "started %Y-%m-%d %H:%M:%SZ", &time) == nullptr)
    return std::nullopt;
  return static_cast<double>(timegm(&time));
}

bool has_indexes(const Definition& definition, const std::vector<double>& oids) {
  return oids.size() == definition.indexes.size() &&
         std::all_of(definition.indexes.begin(), definition.indexes.end(),
                     [&oids](const Index& index) {
                       return std::find(oids.begin(), oids.end(), index.oid) != oids.end();
                     });
}

}  // namespace

Definition read_definition(const pg::Row& row, const pg::Rows& indexes) {
  Definition definition;
  definition.oid = row.text("oid");
  definition.schema_oid = row.text("schema_oid");
  definition.toast_oid = row.text("toast_oid");
  definition.toast_index_pages = number_or(row, "toast_index_pages", 0);
  definition.database = row.text("database");
  definition.role = row.text("role");
  definition.owner = row.text("owner");
  definition.schema = row.text("schema");
  definition.table = row.text("table");
  definition.relkind = row.text("relkind").at(0);
  definition.fillfactor = number_or(row, "fillfactor", 100);
  definition.has_expire_date = row.flag("has_expire_date");
  definition.expire_date_is_time = row.flag("expire_date_is_time");
  definition.expire_date_has_zone = row.flag("expire_date_has_zone");
  definition.may_use_schema = row.flag("may_use_schema");
  definition.may_read_expire_date = row.flag("may_read_expire_date");
  definition.row_security = row.flag("row_security");
  definition.is_superuser = row.flag("is_superuser");
  definition.has_more_rights = row.flag("has_more_rights");
  definition.could_rule_the_server = row.flag("could_rule_the_server");
  definition.may_lock = row.flag("may_lock");
  definition.standby = row.flag("standby");
  definition.statistics_oid = row.text("statistics_oid");
  if (!definition.statistics_oid.empty())
    definition.statistics_function = row.text("statistics_function");
  definition.tuples = number_or(row, "reltuples", -1);
  if (row.flag("swap_logs"))
    definition.swap =
        SwapUnderWay{number_or(row, "swap_logged", 0), start_of_swap(row.text("swap_comment"))};
  std::transform(indexes.begin(), indexes.end(), std::back_inserter(definition.indexes),
                 read_index);
  definition.expire_date_indexed =
      std::any_of(definition.indexes.begin(), definition.indexes.end(), [](const Index& index) {
        return index.valid && index.plain_btree && !index.columns.empty() &&
               index.columns.front() == "expire_date";
      });
  return definition;
}

Measurement begin_measurement(const Definition& definition) {
  Measurement m;
  m.database = definition.database;
  m.schema = definition.schema;
  m.table = definition.table;
  m.role = definition.role;
  m.fillfactor = definition.fillfactor;
  m.columns = definition.columns;
  m.indexes = definition.indexes;
  m.expire_dates = definition.expire_dates;
  m.swap = definition.swap;
  m.may_use_schema = definition.may_use_schema;
  m.may_read_expire_date = definition.may_use_schema && definition.may_read_expire_date;
  m.expire_date_indexed = definition.expire_date_indexed;
  return m;
}

bool read_facts(const pg::Rows& rows, const Definition& definition, Measurement& m) {
  if (rows.empty()) return false;
  const pg::Row& row = rows.front();
  const bool same_table = row.text("table") == definition.table &&
                          row.text("schema_oid") == definition.schema_oid &&
                          row.text("toast_oid") == definition.toast_oid;
  if (!same_table || !has_indexes(definition, row.numbers("index_oids"))) return false;
  m.now = number_or(row, "now", 0);
  m.standby = row.flag("standby");

  m.counters.tuples = number_or(row, "reltuples", -1);
  m.counters.catalog_pages = number_or(row, "relpages", 0);
  m.counters.live = number_or(row, "live", 0);
  m.counters.dead = number_or(row, "dead", 0);
  m.counters.inserted = number_or(row, "inserted", 0);
  m.last_vacuum = row.number("last_vacuum");
  m.last_analyze = row.number("last_analyze");
  m.counters.anchored = m.last_vacuum || m.last_analyze;
  m.counters.stand_still = row.text("counters_stand_still");
  if (m.last_analyze) m.counters.changed = row.number("changed");
  m.rows_inserted = m.counters.inserted;
  m.rows_updated = number_or(row, "updated", 0);
  m.rows_deleted = number_or(row, "deleted", 0);

  m.toast_counters.tuples = number_or(row, "toast_tuples", -1);
  m.toast_counters.catalog_pages = number_or(row, "toast_pages", 0);
  m.toast_counters.live = number_or(row, "toast_live", 0);
  m.toast_counters.dead = number_or(row, "toast_dead", 0);
  m.toast_counters.inserted = number_or(row, "toast_inserted", 0);
  m.toast_counters.anchored = row.flag("toast_anchored");

  m.heap_bytes = m.table_bytes = m.counters.catalog_pages * kPage;
  m.toast_heap_bytes = m.toast_counters.catalog_pages * kPage;
  m.toast_index_bytes = definition.toast_index_pages * kPage;
  return true;
}

void read_sizes(const pg::Row& row, Measurement& m) {
  m.heap_bytes = number_or(row, "heap", 0);
  m.table_bytes = number_or(row, "table", 0);
  m.toast_heap_bytes = number_or(row, "toast_heap", 0);
  m.toast_index_bytes = number_or(row, "toast_index", 0);
  m.sizes_are_exact = true;
  const std::vector<double> sizes = row.numbers("index_sizes");
  for (std::size_t i = 0; i < m.indexes.size(); ++i) m.indexes[i].bytes = sizes.at(i);
}

void read_expiry(const pg::Row& row, Measurement& m) {
  m.oldest_expire_date = row.number("oldest");
  m.oldest_unknown.clear();
  if (m.oldest_expire_date && *m.oldest_expire_date < m.now) m.least_expired = 1;
  read_counts(row, m);
}

void read_sample(const pg::Row& row, Measurement& m) {
  m.not_sampled.clear();
  if (row.flag("sampled"))
    m.seen = RowSample{number_or(row, "share", 1), number_or(row, "rows", 0),
                       number_or(row, "expired", 0)};
}

void read_counts(const pg::Row& row, Measurement& m) {
  const auto limit = row.number("count_limit");
  const auto read = [&](const char* kind, std::optional<double>& counted, double& least) {
    const auto count = row.number(kind);
    if (count && (!limit || *count <= *limit)) counted = count;
    least = std::max(least, count.value_or(0));
  };
  read("expired", m.counted_expired, m.least_expired);
  read("live", m.counted_live, m.least_live);
}

void calibrate(const Measurement& m, ValueDistribution& distribution) {
  distribution.counted.reset();
  const auto rows = estimate_rows(m.counters, m.heap_bytes / kPage, m.seen).rows;
  if (!m.counted_live || !rows || *m.counted_live > *rows) return;
  const double known =
      rows_of_statistics(*rows, distribution, m.now, m.oldest_expire_date, m.counters);
  const double expired = *rows - *m.counted_live;
  distribution.agree_with(known > 0 ? std::min(1.0, expired / known) : 0, m.now,
                          m.oldest_expire_date);
  distribution.counted->changes = m.counters.changed.value_or(0);
}

void read_statistics(const pg::Rows& rows, Definition& definition) {
  definition.columns.clear();
  for (const pg::Row& row : rows) {
    definition.columns.push_back(read_column(row));
    if (definition.columns.back().name != "expire_date") continue;
    definition.expire_dates = {};
    definition.expire_dates.null_fraction = number_or(row, "null_fraction", 0);
    definition.expire_dates.common_values = row.numbers("common_values");
    definition.expire_dates.common_frequencies = row.numbers("common_frequencies");
    definition.expire_dates.histogram = row.numbers("histogram");
  }
}

std::string read_lock_holder(const pg::Rows& rows) {
  if (rows.empty()) return "";
  const pg::Row& row = rows.front();
  std::string text = "pid " + row.text("pid");
  if (row.optional_text("command")) text += ", " + row.text("command");
  if (const auto age = row.number("age")) text += fmt::format(", for {:.0f} s", *age);
  return row.flag("granted") ? text : text + ", itself waiting";
}

}  // namespace django_session::sessions
