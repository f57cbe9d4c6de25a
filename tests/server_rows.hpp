// What the server answers about a healthy table: for the tests of what reads it, and for the fuzzing
// of that. One row has the columns of all answers.
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "pg/rows.hpp"

namespace django_session::server_rows {

using Columns = std::initializer_list<std::pair<const char*, const char*>>;  ///< nullptr: NULL

inline pg::Row row(Columns columns) {
  pg::Row result;
  for (const auto& [name, text] : columns)
    result.set(name, text == nullptr ? std::nullopt : std::optional<std::string>(text));
  return result;
}

inline pg::Row with(pg::Row row, Columns changed) {
  for (const auto& [name, text] : changed)
    row.set(name, text == nullptr ? std::nullopt : std::optional<std::string>(text));
  return row;
}

/// Of measuring and of a plan, with one column and one index. `table_bytes` and what begins with
/// `sample_` are called otherwise by the answers that have them. That no row was `found` leaves out what takes long.
inline pg::Row measured() {
  return row(
      {{"oid", "16400"},
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
       {"sample_rows", "200"},
       {"sample_expired", "20"},
       {"bytes", "8000000"},
       {"found", "0"},
       {"tuple", "150"},
       {"tuple_deviation", "10"},
       {"toasted", "0.25"},
       {"value", "3000"},
       {"value_deviation", "500"},
       {"w0", "33"},
       {"sort_memory", "67108864"},
       {"temporary_max", nullptr},
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
       {"head_state", "idle in transaction"}});
}

/// Of a cleanup: reports of a swap, a batch of a deletion, and what is asked besides. `index_rows` is
/// called otherwise by its answer.
inline pg::Row of_cleanup() {
  return row({{"run_id", "0123456789abcdef0123456789abcdef"},
              {"phase", "catching_up"},
              {"shadow", "16500"},
              {"keep_seconds", "0"},
              {"copied", "300"},
              {"rows_before", "400"},
              {"bytes_before", "8000000"},
              {"age", "60"},
              {"lease", "20"},
              {"backend_gone", "f"},
              {"is_vacuumed", "f"},
              {"intact", "t"},
              {"rows", "300"},
              {"log_bytes", "8192"},
              {"keys", "12"},
              {"truncated", "f"},
              {"ms", "3.5"},
              {"is_ours", "t"},
              {"is_locked", "f"},
              {"swap_lives", "f"},
              {"seen", "500"},
              {"free", "499"},
              {"deleted", "498"},
              {"moment", "2026-01-02_03:04:05.678"},
              {"left_over", "{\"(0,1)\",\"(0,2)\"}"},
              {"left_last", "{\"(0,2)\"}"},
              {"lockers", "{700,701}"},
              {"wal_after", "60000"},
              {"objects", "trigger djs_16400_changed\ntable public.djs_16400_new"},
              {"state", "t"},
              {"logging", "t"},
              {"bytes", "65536"},
              {"keep", "0"},
              {"orphans", "{16300}"},
              {"kind", "backend"},
              {"name", "7"},
              {"role", "site"},
              {"application", "gunicorn"},
              {"seconds", "90"},
              {"object", "table public.djs_16400_new"},
              {"keepers", "view v"},
              {"remedies", "DROP VIEW v"},
              {"bytes_behind", "100"},
              {"seconds_behind", "0.5"},
              {"about_to_be_lost", "f"},
              {"widths", "{33,8}"},
              {"alignments", "{1,8}"},
              {"null_fractions", "{0,0}"},
              {"distinct_values", "{-1,-0.5}"},
              {"index_rows", "400"},
              {"fillfactor", "90"},
              {"unique", "f"},
              {"concurrently", "t"},
              {"read", "0.5"},
              {"made", "0.25"}});
}

}  // namespace django_session::server_rows
