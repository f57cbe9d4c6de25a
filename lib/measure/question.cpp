// The SQL; what is long of it is in sql/. Of the table itself only its files' sizes and a few index
// entries are read, which needs an ACCESS SHARE lock.
#include "measure/question.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/sql_text.hpp"
#include "measure/holders.hpp"
#include "measure/leftovers.hpp"
#include "measure/more_rights.hpp"
#include "measure/schema_renamer.hpp"
#include "measure/sql_files.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

// Nobody may wait longer for a lock because we read (an ACCESS EXCLUSIVE request behind us queues
// all others behind it).
constexpr std::chrono::milliseconds kLockTimeout{100};
// Reading the ends of the index is a matter of microseconds, except right after a mass delete: then
// all the dead entries are walked over.
constexpr long long kExpiryTimeoutMs = 500;

// For the name of a table that was given without its schema, before the transaction's own
// search_path hides the session's. {0} that one, as it was before an earlier reading ran code of the
// table's owner, which may have left another. Temporary tables are nobody's session table, and not
// in it.
constexpr const char* kRememberPath = R"(
SELECT pg_catalog.set_config('search_path', {0}, true) AS search_path;
SELECT pg_catalog.set_config('django_session.path',
  pg_catalog.current_schemas(false)::pg_catalog.text, true);
)";

// What a policy hides is an error, not a smaller number.
constexpr const char* kWholeNumbers = R"(
SET LOCAL row_security = off;
SET LOCAL extra_float_digits = 1;
)";

// Statistics come as text. What is written in the session's zone can be beyond what may be read
// again; but a `timestamp` (Django without USE_TZ) is meant in that zone.
constexpr const char* kUtc = "SET LOCAL timezone = 'UTC';\n";

/// {0} the table's name as a literal: the OID that it has in the remembered path.
constexpr const char* kVisibleTable = R"((
  SELECT t.oid FROM unnest(current_setting('django_session.path')::name[])
    WITH ORDINALITY AS path(schema, position)
  JOIN pg_namespace s ON s.nspname = path.schema
  JOIN pg_class t ON t.relnamespace = s.oid AND t.relname = {0}
  WHERE s.oid <> pg_my_temp_schema() ORDER BY path.position LIMIT 1))";

/// Whether it is, or could make itself, a superuser.
constexpr const char* kCouldRuleTheServer = R"((
  me.rolsuper OR me.rolcreaterole OR EXISTS (
    SELECT FROM pg_roles r
    WHERE r.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
      AND pg_has_role(me.oid, r.oid, 'MEMBER'))))";

/// {0} the table's OID. That the name is the table's now doesn't say that it was when it was
/// locked.
constexpr const char* kHeld = R"(
UNION ALL
SELECT 'it has just been changed'
WHERE NOT EXISTS (
  SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
  WHERE l.locktype = 'relation' AND l.relation = '{0}'::oid AND d.datname = current_database()
    AND l.pid = pg_backend_pid() AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted))";

/// {0} the table's OID, {1} schema_renamer(). For a role that can't lock pg_namespace.
constexpr const char* kNameStays = R"(
UNION ALL
SELECT format('role %I can put another table in its place, by renaming schema %I', renamer, schema)
FROM (SELECT n.nspname AS schema, {1} AS renamer
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles me
      WHERE c.oid = '{0}'::oid AND me.rolname = session_user) q
WHERE renamer IS NOT NULL)";

/// The locks are held until the next message: not for as long as we may be stopped in between.
constexpr const char* kNotForever = "SET LOCAL idle_in_transaction_session_timeout = 5000;\n";

constexpr const char* kIndexes = R"(
SELECT ic.oid, ic.relname AS name, ic.relpages,
  i.indisvalid AND i.indisready AND i.indislive AS valid, i.indisunique AS "unique",
  coalesce((SELECT option_value FROM pg_catalog.pg_options_to_table(ic.reloptions)
            WHERE option_name = 'fillfactor'), '90') AS fillfactor,
  am.amname = 'btree' AND i.indexprs IS NULL AND i.indpred IS NULL AS plain_btree,
  (SELECT pg_catalog.string_agg(a.attname, E'\n' ORDER BY k.position)
   FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, position)
   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_am am ON am.oid = ic.relam
WHERE {0} ORDER BY ic.relname;
)";

/// Why the server's counters don't follow the table c, or NULL: track_counts, of the server, or of
/// this database or who writes to the table. (Of a superuser only if the table is his.)
constexpr const char* kCountersStandStill = R"(coalesce(
  CASE WHEN current_setting('track_counts') = 'off' THEN 'track_counts is off' END,
  (SELECT 'track_counts is off for ' || coalesce('role ' || quote_ident(r.rolname), 'this database')
   FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS entry
   LEFT JOIN pg_roles r ON r.oid = s.setrole
   WHERE s.setdatabase IN (0::oid, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
     AND entry LIKE E'track\\_counts=%' AND lower(split_part(entry, '=', 2)) NOT IN ('on', 'true', 'yes', '1')
     AND (s.setrole = 0::oid OR s.setrole = c.relowner
          OR NOT r.rolsuper AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE'))
   LIMIT 1)))";

/// {0} the table's OID, {1} its TOAST table's, {2} sizes of the indexes. Every size function locks
/// what it measures, ACCESS SHARE, until the end of the transaction.
constexpr const char* kSizes = R"(
SELECT pg_catalog.pg_relation_size('{0}'::oid, 'main') AS heap,
  pg_catalog.pg_relation_size('{0}'::oid, 'main') + pg_catalog.pg_relation_size('{0}'::oid, 'fsm')
    + pg_catalog.pg_relation_size('{0}'::oid, 'vm') + pg_catalog.pg_relation_size('{0}'::oid, 'init') AS "table",
  pg_catalog.pg_table_size({1}::oid) AS toast_heap, pg_catalog.pg_indexes_size({1}::oid) AS toast_index,
  ARRAY[{2}]::pg_catalog.int8[] AS index_sizes;
)";

/// {0} the table, {1} and {2} the counts, {3} their limit. Each part reads one end of the index on
/// expire_date, or the place of now() in it. The cast is for `timestamp` (Django without USE_TZ),
/// which is local time: extract() would take it for UTC.
constexpr const char* kExpiry = R"(
SELECT extract(epoch FROM (SELECT pg_catalog.min(expire_date) FROM ONLY {0} WHERE expire_date > '-infinity')
    ::pg_catalog.timestamptz) AS oldest,
  {1} AS expired, {2} AS live, {3} AS count_limit;
)";

/// {0} the table, {1} the condition, {2} how far to count.
constexpr const char* kBoundedCount =
    "(SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY {0} WHERE expire_date {1} pg_catalog.now() "
    "LIMIT {2} + 1) q)";

// As many pages as tell the number of rows to a few per cent, and take milliseconds: 32 MB.
constexpr int kSampledPages = 4000;

/// Where there is no index.
constexpr const char* kByScan =
    "SET LOCAL enable_seqscan = on;\nSET LOCAL max_parallel_workers_per_gather = 0;\n";

constexpr const char* kExactCounts = R"(
SELECT pg_catalog.count(*) FILTER (WHERE expire_date < pg_catalog.now()) AS expired,
  pg_catalog.count(*) FILTER (WHERE expire_date >= pg_catalog.now()) AS live, NULL AS count_limit
FROM ONLY {0};
)";

constexpr const char* kLiveCount = R"(
SELECT NULL AS expired, pg_catalog.count(*) AS live, {1} AS count_limit
FROM (SELECT FROM ONLY {0} WHERE expire_date >= pg_catalog.now() LIMIT {1} + 1) q;
)";

/// {0} same_table(), {1} more_rights(), {2} kFunctionIsTheSame or nothing. What was learned at an
/// earlier time doesn't say with whose code our rights are shared now, nor does an error that
/// depends on a setting end anything: the owner of the database can set it.
constexpr const char* kStillHarmless = R"(
SELECT CASE WHEN EXISTS (
    SELECT {0} AND {1} IS NULL{2})
  THEN true ELSE ('the table, its owner or the rights of ' || session_user || ' have changed')::bool END AS is_harmless;
)";

/// {0} the OID of roles.sql's function, {1} its name as a literal. It is called by its name in the
/// next statement, so it has to be the one that was learned of: in the place of one that is gone,
/// any role with CREATE on the schema can put one that runs with our rights.
constexpr const char* kFunctionIsTheSame = R"(
      AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = '{0}'::oid AND p.proowner = c.relowner AND p.prosecdef
                  AND format('%I.%I', n.nspname, p.proname) = {1}))";

/// {0} the table. Its lock is taken, and held, as soon as the statement is parsed; nothing is
/// planned for it (which is when code of the owner's would run) since the planner has dropped it by
/// then. A statement of its own: one that is prepared sees the catalogue as of before its locks.
constexpr const char* kHold =
    "SELECT CASE WHEN false THEN (SELECT expire_date FROM ONLY {0} LIMIT 1) END AS hold;\n";

/// Statistics of the columns that this role may read; roles.sql's function is the same as the
/// table's owner sees it.
constexpr const char* kOwnStatistics = R"((
  SELECT attname AS column_name, avg_width AS average_width, null_frac AS null_fraction, n_distinct,
    CASE attname WHEN 'expire_date' THEN ARRAY(
      SELECT extract(epoch FROM v) FROM pg_catalog.unnest(most_common_vals::text::timestamptz[]) v) END AS common_values,
    CASE attname WHEN 'expire_date' THEN most_common_freqs END AS common_frequencies,
    CASE attname WHEN 'expire_date' THEN ARRAY(
      SELECT extract(epoch FROM v) FROM pg_catalog.unnest(histogram_bounds::text::timestamptz[]) v) END AS histogram
  FROM pg_catalog.pg_stats WHERE schemaname = {0} AND tablename = {1} AND NOT inherited))";

constexpr const char* kCandidates = R"(
SELECT n.nspname AS schema, c.relname AS "table"
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND 3 = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
  AND a.attname IN ('session_key', 'session_data', 'expire_date') AND NOT a.attisdropped)
  AND c.relname NOT LIKE E'djs\\_%\\_new' AND c.relname NOT LIKE E'djs\\_%\\_old'  -- a swap's
ORDER BY 1, 2 LIMIT 4;
)";

/// One pass over the catalogue: pages of heaps, TOAST tables and indexes, each for the table that
/// they belong to.
constexpr const char* kLargestTables = R"(
SELECT n.nspname AS schema, o.relname AS "table", 8192 * pages AS bytes
FROM (SELECT coalesce(toasted.oid, base.oid) AS oid, pg_catalog.sum(c.relpages::bigint) AS pages
      FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
      CROSS JOIN LATERAL (SELECT coalesce(i.indrelid, c.oid) AS oid) base
      LEFT JOIN pg_catalog.pg_class toasted ON toasted.reltoastrelid = base.oid
      WHERE c.relkind IN ('r', 'm', 't', 'i') GROUP BY 1) size
JOIN pg_catalog.pg_class o ON o.oid = size.oid AND o.relkind IN ('r', 'm')
JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE E'pg\\_%'
ORDER BY pages DESC, 1, 2 LIMIT 5;
)";

std::string begin(long long timeout_ms, const std::string& first = "") {
  const TransactionLimits limits{kLockTimeout,
                                 std::chrono::milliseconds(std::max(1LL, timeout_ms))};
  return begin_transaction(Access::read_only, limits, first) + kWholeNumbers;
}

std::string in_transaction(long long timeout_ms, const std::string& statements) {
  return begin(timeout_ms) + statements + "COMMIT;\n";
}

/// The server collects 8 kB of answers before it sends any; so much filler pushes out those that
/// are waiting there.
constexpr const char* kFlush = "SELECT pg_catalog.repeat(' ', 8192);\n";

/// In a transaction of its own, so that the table's locks are not held while it walks the whole
/// data folder. The filler is in it, too: after a query, a transaction can no longer have another
/// isolation level than the database's default.
std::string database_size(const Reading& reading) {
  if (!reading.database_size) return "";
  return in_transaction(
      reading.budget.count() * (reading.exact ? 1 : 3) / 5,
      std::string(kFlush) +
          "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes;\n");
}

std::string index_sizes(const Reading& reading) {
  std::string sizes;
  for (const Oid oid : reading.index_oids)
    sizes += fmt::format("{}pg_catalog.pg_table_size('{}'::oid)", sizes.empty() ? "" : ", ", oid);
  return sizes;
}

std::string bounded_count(const Reading& reading, bool wanted, const char* condition) {
  return wanted ? fmt::format(kBoundedCount, reading.table, condition, reading.count_up_to)
                : "NULL";
}

std::string still_harmless(const Reading& reading, const std::string& function = "") {
  return fmt::format(
      kStillHarmless,
      same_table(reading.oid, reading.schema_literal, reading.table_literal, reading.owner_literal),
      reading.more_rights, function);
}

std::string sizes(const Reading& reading) {
  return fmt::format(kSizes, reading.oid, reading.toast_oid ? reading.toast_oid.text() : "NULL",
                     index_sizes(reading));
}

std::string expiry(const Reading& reading) {
  return fmt::format(kExpiry, reading.table, bounded_count(reading, reading.count_expired, "<"),
                     bounded_count(reading, reading.count_live, ">="), reading.count_up_to);
}

std::string sample(const Reading& reading) {
  return sql::fill<sql::sample>(sql::arg<"table">(reading.table), sql::arg<"oid">(reading.oid),
                                sql::arg<"pages">(kSampledPages),
                                sql::arg<"counters_stand_still">(kCountersStandStill),
                                sql::arg<"changes_to_bear">(reading.changes_to_bear));
}

std::string time_limit(long long milliseconds) {
  return fmt::format("SET LOCAL statement_timeout = {};\n", std::max(1LL, milliseconds));
}

/// What can be read while the table is locked.
std::string about_the_table(const Reading& reading, PreparedStatements& prepared) {
  std::string sql = reading.expire_date_has_zone ? kUtc : "";
  if (asks_function(reading))
    sql += still_harmless(
        reading, fmt::format(kFunctionIsTheSame, reading.function_oid, reading.function_literal));
  sql += prepared.execute(sql::fill<sql::facts>(
      sql::arg<"oid">(reading.oid), sql::arg<"counters_stand_still">(kCountersStandStill)));
  if (!reading.statistics.empty())
    sql += sql::fill<sql::statistics>(sql::arg<"oid">(reading.oid),
                                      sql::arg<"source">(reading.statistics));
  if (asks_unguarded(reading))
    sql += fmt::format(kHold, reading.table) + prepared.execute(still_harmless(reading));
  return sql + prepared.execute(sizes(reading));
}

/// From the table itself.
std::string about_its_rows(const Reading& reading, PreparedStatements& prepared) {
  const long long budget = reading.budget.count();
  const long long expiry_ms = std::min(kExpiryTimeoutMs, budget / 4);
  const std::string counting = time_limit(reading.exact ? budget * 3 / 4 : expiry_ms);
  std::string sql = reading.expire_date_indexed ? kByIndex : kByScan;
  if (reading.expire_date_indexed) sql += time_limit(expiry_ms) + prepared.execute(expiry(reading));
  sql += counting;
  if (reading.exact) sql += fmt::format(kExactCounts, reading.table);
  if (reading.expire_date_indexed && reading.calibrate_up_to > 0)
    sql += fmt::format(kLiveCount, reading.table, reading.calibrate_up_to);
  if (asks_sample(reading)) sql += prepared.execute(sample(reading));
  return sql;
}

}  // namespace

std::string grants_message(std::chrono::milliseconds budget) {
  return in_transaction(budget.count(), kGrantedCatalogs);
}

std::string definition_message(const std::string& schema_literal, const std::string& table_literal,
                               const std::string& path_literal, const std::string& more_rights,
                               std::chrono::milliseconds budget) {
  const std::string where =
      schema_literal.empty()
          ? "c.oid = " + fmt::format(kVisibleTable, table_literal)
          : fmt::format("c.relname = {} AND n.nspname = {}", table_literal, schema_literal);
  const std::string path =
      path_literal.empty() ? "pg_catalog.current_setting('search_path')" : path_literal;
  return begin(budget.count(), fmt::format(kRememberPath, path)) +
         sql::fill<sql::definition>(sql::arg<"where">(where), sql::arg<"more_rights">(more_rights),
                                    sql::arg<"could_rule_the_server">(kCouldRuleTheServer),
                                    sql::arg<"is_cleanup_lock">(is_cleanup_lock("k", "c.oid"))) +
         fmt::format(kIndexes, where) + "COMMIT;\n";
}

std::string own_statistics(const std::string& schema_literal, const std::string& table_literal) {
  return fmt::format(kOwnStatistics, schema_literal, table_literal);
}

std::string function_statistics(const std::string& function, Oid oid) {
  return fmt::format("{}('{}'::oid::regclass)", function, oid);
}

std::string guard_message(const Guard& guard, std::chrono::milliseconds budget) {
  std::string sql = begin(budget.count()) + kNotForever;
  if (guard.lock)
    sql += fmt::format("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE;\n", guard.table);
  if (guard.lock && guard.superuser) sql += "LOCK TABLE pg_namespace IN SHARE MODE;\n";
  const std::string held = guard.lock ? fmt::format(kHeld, guard.oid) : "";
  const std::string name_stays = guard.lock && !guard.superuser
                                     ? fmt::format(kNameStays, guard.oid, schema_renamer("me"))
                                     : "";
  return sql + sql::fill<sql::foreign_code>(
                   sql::arg<"oid">(guard.oid), sql::arg<"schema_literal">(guard.schema_literal),
                   sql::arg<"table_literal">(guard.table_literal), sql::arg<"unless_held">(held),
                   sql::arg<"unless_name_stays">(name_stays));
}

bool asks_function(const Reading& reading) { return static_cast<bool>(reading.function_oid); }

bool asks_unguarded(const Reading& reading) {
  return reading.may_read_expire_date && !reading.guarded;
}

bool asks_sample(const Reading& reading) { return reading.may_read_expire_date && !reading.exact; }

std::string reading_message(const Reading& reading, PreparedStatements& prepared) {
  std::string sql = about_the_table(reading, prepared);
  if (reading.may_read_expire_date) sql += about_its_rows(reading, prepared);
  sql = prepared.verification() + sql;
  return (reading.guarded ? sql + "COMMIT;\n" : in_transaction(reading.budget.count(), sql)) +
         database_size(reading);
}

std::string preparation_message(const std::string& statements, std::chrono::milliseconds budget) {
  return in_transaction(budget.count(), statements);
}

std::string after_failure_message(const Reading& reading) {
  return in_transaction(1000, sql::fill<sql::lock_queue>(sql::arg<"oid">(reading.oid))) +
         database_size(reading);
}

std::string largest_tables_message(std::chrono::milliseconds budget) {
  return in_transaction(std::min<long long>(1000, budget.count()), kLargestTables);
}

std::string dead_row_holders_message(std::chrono::milliseconds budget) {
  return in_transaction(std::min<long long>(1000, budget.count()), dead_row_holders_query());
}

std::string candidates_message(std::chrono::milliseconds budget) {
  return in_transaction(budget.count(), kCandidates);
}

}  // namespace django_session::sessions
