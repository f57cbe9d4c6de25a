// The server's answers. A line of the input is `column=value`, which replaces a value of the answers
// below; a value of \N is NULL, and | stands for a line's end within a value.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "core/picture.hpp"
#include "demand.hpp"
#include "measure/answer.hpp"

using namespace django_session;
using namespace django_session::sessions;

namespace {

struct Column {
  const char* name;
  const char* value;
};

// All that the readers of answers ask for, of one healthy table with an index.
constexpr std::array kColumns = std::to_array<Column>({
    {"oid", "16400"},
    {"schema_oid", "2200"},
    {"schema", "public"},
    {"table", "django_session"},
    {"relkind", "r"},
    {"reltuples", "400"},
    {"relpages", "10"},
    {"toast_oid", "16403"},
    {"toast_index_pages", "2"},
    {"swap_logs", "t"},
    {"swap_logged", "17"},
    {"swap_runs", "f"},
    {"swap_comment", "django_session_cleanup, keeping 60 s, started 2026-02-03 10:00:00Z"},
    {"fillfactor", "100"},
    {"database", "site"},
    {"role", "watcher"},
    {"has_expire_date", "t"},
    {"expire_date_is_time", "t"},
    {"expire_date_has_zone", "t"},
    {"may_use_schema", "t"},
    {"may_read_expire_date", "t"},
    {"owner", "site"},
    {"row_security", "f"},
    {"is_superuser", "f"},
    {"has_more_rights", "f"},
    {"could_rule_the_server", "f"},
    {"may_lock", "t"},
    {"counters_stand_still", nullptr},
    {"standby", "f"},
    {"statistics_oid", nullptr},
    {"statistics_function", nullptr},
    {"name", "expire_date"},
    {"valid", "t"},
    {"unique", "f"},
    {"plain_btree", "t"},
    {"columns", "expire_date"},
    {"length", "8"},
    {"alignment", "8"},
    {"average_width", "8"},
    {"null_fraction", "0"},
    {"n_distinct", "-1"},
    {"never_analyzed", "f"},
    {"common_values", "{}"},
    {"common_frequencies", "{}"},
    {"histogram", "{100,200,2000}"},
    {"toast_relpages", nullptr},
    {"toast_reltuples", nullptr},
    {"toast_live", nullptr},
    {"toast_dead", nullptr},
    {"toast_inserted", nullptr},
    {"toast_anchored", "f"},
    {"index_oids", "{16400}"},
    {"now", "1000.5"},
    {"live", "390"},
    {"dead", "7"},
    {"inserted", "500"},
    {"updated", "20"},
    {"deleted", "110"},
    {"changed", "0"},
    {"last_vacuum", nullptr},
    {"last_analyze", "900"},
    {"heap", "81920"},
    {"table_bytes", "114688"},
    {"toast_heap", "0"},
    {"toast_index", "8192"},
    {"index_sizes", "{40960}"},
    {"oldest", "12.5"},
    {"expired", "10"},
    {"count_limit", "2000"},
    {"sampled", "t"},
    {"share", "0.5"},
    {"rows", "200"},
    {"waited", "3"},
    {"prepared", ""},
    {"pid", "7"},
    {"application", "psql"},
    {"granted", "f"},
    {"command", "VACUUM FULL"},
    {"age", "90"},
    {"head", "8"},
    {"head_role", "admin"},
    {"head_application", "psql"},
    {"head_age", "60"},
    {"head_state", "idle in transaction"},
});

pg::Row healthy_row() {
  pg::Row row;
  for (const Column& column : kColumns)
    row.set(column.name,
            column.value == nullptr ? std::nullopt : std::optional<std::string>(column.value));
  return row;
}

void replace(pg::Row& row, std::string_view line) {
  const std::size_t at = line.find('=');
  if (at == std::string_view::npos || !row.has(std::string(line.substr(0, at)))) return;
  std::string value(line.substr(at + 1));
  for (char& c : value) c = c == '|' ? '\n' : c;
  row.set(std::string(line.substr(0, at)),
          value == "\\N" ? std::nullopt : std::optional<std::string>(value));
}

pg::Row row_of(std::string_view text) {
  pg::Row row = healthy_row();
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    replace(row, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return row;
}

/// As a reading does, all of it.
void read(const pg::Row& row) {
  Definition definition = read_definition(row, {row});
  definition.statistics = read_statistics({row});
  const auto facts = read_facts({row}, definition);
  if (!facts) return;
  Measurement m = begin_measurement(definition, *facts);
  pg::Row sizes = row;
  sizes.set("table", row.optional_text("table_bytes"));  // another answer's name of that
  read_sizes(sizes, m);
  read_expiry(row, m);
  read_sample(row, m);
  read_counts(row, m);
  calibrate(m, m.statistics.expire_dates);
  m.lock = read_lock_queue({row});
  m.database_bytes = 1e9;
  Findings findings = evaluate(m);
  evaluate_database(m, findings.values);
  sessions_in_words(m, findings.values);
  size_in_words(short_name(m.table), m, findings.values);
  swap_was_abandoned(m);
  if (const auto afresh = sizes_afresh(m)) fuzz::demand(!std::isnan(afresh->total()), "a size", "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  try {
    read(row_of(fuzz::text_of(data, size)));
  } catch (const std::runtime_error&) {  // text of another type
  } catch (const std::out_of_range&) {
  }
  return 0;
}
