// The messages. Each is one transaction: the settings, the role of the table's owner, the locks,
// and then its work as a PL/pgSQL block in the owner's jail (see as_owner.hpp), which begins with
// kGuard.
//
// Locks are asked for by LOCK TABLE, as statements of their own: while a block waits it holds a
// snapshot, and a session that builds an index CONCURRENTLY waits for that.
//
// Names of the table's columns always have the table's alias before them, and variables the block's
// label, djs: a column may be called anything. Names of objects are made from OIDs (oid::regclass,
// format('%I')) where they stand in a string.
#include "cleanup/swap_sql.hpp"

#include <fmt/format.h>

#include "cleanup/as_owner.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/sql_files.hpp"
#include "cleanup/swap_phase.hpp"
#include "cleanup/table_definition.hpp"
#include "core/sql_name.hpp"
#include "core/sql_text.hpp"
#include "measure/catalog_query.hpp"
#include "measure/leftovers.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

using sql::arg;

// In the exchange, before the exclusive lock is asked for.
constexpr int kMostKeysBeforeLock = 10000;

// A lock, once granted, is held until COMMIT, so the message is sent as one and nothing waits for
// the network. Nor does its COMMIT wait, with the lock, for a standby that may be gone: whatever
// clients commit afterwards comes later in the WAL, so no standby has that without this.
constexpr std::string_view kBegin = R"({begin}
SET LOCAL synchronous_commit = local;
SET LOCAL plpgsql.extra_errors = 'none';
SET LOCAL timezone = 'UTC';
{usual_plans}
SET LOCAL ROLE {owner};
)";

// {name_literal} a helper's name as a string: its OID if it is a table of the owner's; else NULL.
// Where the helpers are gone, or their table has moved, others may have put something under their
// names (a view, say): to read that would run their code with the owner's rights.
constexpr std::string_view kOurs =
    R"((SELECT c.oid FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.oid = to_regclass({name_literal}) AND c.relkind = 'r' AND r.rolname = current_user))";

// {name} a helper's, {ours} kOurs of it, {otherwise} what to raise. Once it is locked its name
// can't become another's; while we waited for the lock it can. Only what is ours is locked: others
// could hold their locks without end. {denied}: what to do where its owner has revoked his own
// rights.
constexpr std::string_view kHold = R"(
  IF {ours} IS NOT NULL THEN
    BEGIN
      LOCK TABLE ONLY {name} IN ACCESS SHARE MODE;
    EXCEPTION
      WHEN insufficient_privilege THEN
        {denied};
      WHEN undefined_table OR invalid_schema_name OR wrong_object_type THEN
        NULL;
    END;
  END IF;
  IF {ours} IS NULL THEN
    RAISE EXCEPTION {otherwise};
  END IF;
)";

// Locks the state's row until the end of the transaction: two runs never act at the same time, on
// whatever host or connection, and one that was taken over ends here.
constexpr std::string_view kGuard = R"(
  UPDATE ONLY {state} m SET lease_until = clock_timestamp() + interval '{lease} seconds',
    backend = pg_backend_pid()
  WHERE m.run_id = {run_id};
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another cleanup of this table has taken over' USING ERRCODE = 'DJS01';
  END IF;
)";

// For shorten_wait.sql.
constexpr const char* kNoteWhen =
    "SELECT set_config('djs.locked_at', extract(epoch FROM clock_timestamp())::text, true);\n";
// Nobody waits for our locks while a disk or a replica writes. What is lost in a crash is lost with
// all that came later.
constexpr const char* kQuickCommit = "SET LOCAL synchronous_commit = off;\n";

constexpr const char* kAsked = "SELECT extract(epoch FROM clock_timestamp()) AS asked;\n";
constexpr const char* kEnded = "SELECT extract(epoch FROM clock_timestamp()) AS ended;\n";

// Where the function, or what it writes to, was altered.
constexpr std::string_view kCheckMark = R"(
  IF {trigger_mark} IS DISTINCT FROM (SELECT m.triggers FROM {state} m) THEN
    RAISE EXCEPTION 'a trigger of the swap could not log a change, or was altered'
      USING ERRCODE = 'DJS03';
  END IF;
)";

// Before table and shadow, or table and index, are said to disagree: of what a statement saw, other
// sessions may have changed what no snapshot holds fast.
constexpr std::string_view kCheckTruncated = R"(
  IF EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated) THEN
    RAISE EXCEPTION 'the table was truncated' USING ERRCODE = 'DJS03';
  END IF;
)";

// The server counts inserted rows at leisure, and would count those of the shadow after VACUUM has:
// twice.
constexpr const char* kFlushStatistics = R"(
DO $flush$
BEGIN
  IF to_regproc('pg_catalog.pg_stat_force_next_flush') IS NOT NULL THEN
    EXECUTE 'SELECT pg_stat_force_next_flush()';
  ELSE  -- before PostgreSQL 15, at the next statement if the last time was half a second ago
    PERFORM pg_sleep(0.6);
  END IF;
END $flush$;
)";

// Nor is an index read as a whole to be joined.
constexpr const char* kNoOtherJoins = R"(
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
)";

constexpr const char* kStartClock = "  started := clock_timestamp();\n";
constexpr std::string_view kReportDrain = R"(
  RAISE INFO 'djs: keys=% truncated=% ms=%', item.keys,
    EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated),
    extract(epoch FROM clock_timestamp() - started) * 1000;
)";

// TABLESAMPLE is a way of its own to read all pages, whatever the planner is set to prefer.
constexpr std::string_view kCountByHeap = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t TABLESAMPLE SYSTEM (100)
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m);
  RAISE INFO 'djs: heap=%', item.rows;
)";
constexpr std::string_view kCountByIndex = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m);
  RAISE INFO 'djs: index=%', item.rows;
)";
constexpr std::string_view kCountByKey = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t TABLESAMPLE SYSTEM (100)
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m)
    AND EXISTS (SELECT FROM ONLY {table} p WHERE p.session_key = t.session_key);
  RAISE INFO 'djs: key=%', item.rows;
)";

// VACUUM and ANALYZE can't renew the lease, however long they take: what shows is their lock on the
// shadow or the log, which they hold or wait for. Those of autovacuum have no role.
constexpr const char* kIsVacuumed = R"(EXISTS (
      SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'relation' AND l.relation IN (m.shadow, m.log)
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.mode = 'ShareUpdateExclusiveLock' AND a.usesysid IS NOT NULL))";

constexpr std::string_view kTakeOver = R"(
  UPDATE ONLY {state} m SET run_id = {run_id},
    phase = CASE WHEN m.phase = '{ready}' AND m.run_id <> {run_id} THEN '{catching_up}' ELSE m.phase END,
    lease_until = clock_timestamp() + interval '{lease} seconds', backend = pg_backend_pid()
  WHERE m.run_id = {former};
  RAISE INFO 'djs: taken=%', FOUND;
)";

// Nothing is left to tell: no more sessions than were copied, and a size that isn't known.
constexpr std::string_view kReported = R"(
  UPDATE ONLY {state} SET rows_before = copied, bytes_before = -1;
)";

constexpr std::string_view kEndLease = R"(
  UPDATE ONLY {state} SET lease_until = clock_timestamp();
)";

constexpr std::string_view kColumns = R"(
SELECT quote_ident(a.attname) AS name FROM pg_attribute a
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
)";

/// "t.a, t.b"; `as`: "t.a AS c1, t.b AS c2".
std::string list(const Columns& columns, const std::string& prefix, bool renamed = false) {
  std::string text;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    text += (i == 0 ? "" : ", ") + prefix + columns[i];
    if (renamed) text += fmt::format(" AS c{}", i + 1);
  }
  return text;
}

/// "c1, c2", as list(..., true) has named them.
Columns renamed(const Columns& columns) {
  Columns names;
  for (std::size_t i = 0; i < columns.size(); ++i) names.push_back(fmt::format("c{}", i + 1));
  return names;
}

/// A row as a number of 64 bits: each column's text, seeded with the hash of those before it. NULL
/// counts as a text that no column has.
std::string hash_of_row(const Columns& columns, const std::string& prefix) {
  std::string hash = "0";
  for (const std::string& column : columns)
    hash = fmt::format(R"(hashtextextended(coalesce({}{}::text, E'\x01NULL') COLLATE "C", {}))",
                       prefix, column, hash);
  return hash;
}

template <Phase phase, sql::Name name>
auto phase_name() {
  return sql::optional_arg<name>(facts_of(phase).name);
}

/// Fills in what every message may use (names with a backslash or a dollar sign are refused by the
/// pre-flight); `more` are a message's own arguments.
template <const std::string_view& text, typename... More>
std::string fill(const SwapNames& names, TransactionLimits limits, const More&... more) {
  return sql::fill<text>(
      sql::optional_arg<"oid">(names.oid), sql::optional_arg<"table">(names.table),
      sql::optional_arg<"table_literal">(sql_string(names.table)),
      sql::optional_arg<"state">(names.state()),
      sql::optional_arg<"state_literal">(sql_string(names.state())),
      sql::optional_arg<"shadow">(names.shadow()), sql::optional_arg<"log">(names.log()),
      sql::optional_arg<"log_literal">(sql_string(names.log())),
      sql::optional_arg<"function_literal">(sql_string(names.function())),
      sql::optional_arg<"owner">(names.owner),
      sql::optional_arg<"owner_literal">(sql_string(names.owner)),
      sql::optional_arg<"usual_plans">(kUsualPlans),
      sql::optional_arg<"begin">(begin_transaction(Access::read_write, limits)),
      sql::optional_arg<"run_id">(sql_string(names.run_id)),
      sql::optional_arg<"lease">(patience::kLease.count()),
      sql::optional_arg<"lock_ms">(limits.lock.count()), phase_name<Phase::created, "created">(),
      phase_name<Phase::copying, "copying">(), phase_name<Phase::catching_up, "catching_up">(),
      phase_name<Phase::ready, "ready">(), phase_name<Phase::exchanged, "exchanged">(),
      phase_name<Phase::stopped, "stopped">(), more...);
}

std::string by_index() { return std::string(kByIndex) + kNoOtherJoins; }

/// creation: there are none yet, and no session is read. no_state: nobody has made one.
/// hold_state: the state is a table of the owner's, and stays that. yes: and it is our run's.
/// with_helpers: so are log and shadow, of which only then anything may be read or written by name.
/// with_triggers: and what the triggers note is complete.
enum class Guarded { creation, no, no_state, hold_state, yes, with_helpers, with_triggers };

// What nobody's run has made is no longer that once there is a state: it may be the next run's.
constexpr std::string_view kNoState = R"(
  IF {ours} IS NOT NULL THEN
    RAISE EXCEPTION 'another cleanup of this table has just begun' USING ERRCODE = 'DJS01';
  END IF;
)";

std::string hold(const std::string& name, const std::string& otherwise, const std::string& denied) {
  const std::string ours = sql::fill<kOurs>(arg<"name_literal">(sql_string(name)));
  return sql::fill<kHold>(arg<"ours">(ours), arg<"name">(name), arg<"otherwise">(otherwise),
                          arg<"denied">(denied));
}

std::string check_mark(const SwapNames& names, TransactionLimits limits) {
  return fill<kCheckMark>(names, limits,
                          arg<"trigger_mark">(fill<sql::trigger_mark>(names, limits)));
}

std::string check_unchanged(const SwapNames& names, TransactionLimits limits) {
  return fill<kCheckTruncated>(names, limits) + check_mark(names, limits);
}

std::string guard(const SwapNames& names, TransactionLimits limits, Guarded guarded) {
  if (guarded == Guarded::creation || guarded == Guarded::no) return "";
  if (guarded == Guarded::no_state)
    return sql::fill<kNoState>(
        arg<"ours">(sql::fill<kOurs>(arg<"name_literal">(sql_string(names.state())))));
  std::string text =
      hold(names.state(), "'another cleanup of this table has just ended' USING ERRCODE = 'DJS01'",
           "RAISE");
  if (guarded == Guarded::hold_state) return text;
  text += fill<kGuard>(names, limits);
  if (guarded == Guarded::yes) return text;
  for (const std::string& helper : {names.log(), names.shadow()})
    text += hold(helper, "'a table of the swap is gone' USING ERRCODE = 'DJS03'",
                 "RAISE EXCEPTION 'a table of the swap is closed to us' USING ERRCODE = 'DJS03'");
  if (guarded == Guarded::with_helpers) return text;
  return text + check_mark(names, limits);
}

/// The work of one message as the owner; `nth` tells two of one message apart.
OwnersWork work(const SwapNames& names, TransactionLimits limits, const std::string& body,
                Guarded guarded = Guarded::yes, int nth = 1) {
  constexpr const char* kBlock = R"(
<<djs>>
DECLARE
  item record;
  run record;
  original regclass;
  schema regnamespace;
  table_name name;
  lines text[];
  differs text;
  seen text;
  started timestamptz;
BEGIN
{}{}
END;)";
  return as_owner(names.schema, fmt::format("djs_{}_{}", names.run_id, nth),
                  fmt::format(kBlock, guard(names, limits, guarded), body),
                  guarded == Guarded::creation ? WorksOn::definitions : WorksOn::sessions);
}

/// `locks`: statements, with or without a look at the clock before and after.
std::string transaction(const SwapNames& names, TransactionLimits limits, const std::string& locks,
                        const OwnersWork& work, const std::string& after = "") {
  return fill<kBegin>(names, limits) + work.define + locks + work.run + after + "COMMIT;\n";
}

std::string transaction(const SwapNames& names, TransactionLimits limits, const std::string& body) {
  return transaction(names, limits, "", work(names, limits, body, Guarded::with_triggers));
}

/// `meanwhile`: undone with it.
std::string lock_against_vacuum(const SwapNames& names, TransactionLimits limits,
                                const std::string& table, const OwnersWork& meanwhile = {}) {
  return fill<sql::lock_against_vacuum>(names, limits, arg<"locked">(table),
                                        arg<"prepare">(meanwhile.define),
                                        arg<"run">(meanwhile.run));
}

std::string drain(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                  long long rows) {
  return fill<sql::drain>(
      names, limits, arg<"check_unchanged">(check_unchanged(names, limits)),
      arg<"columns">(list(columns, "")), arg<"t_as_c">(list(columns, "t.", true)),
      arg<"c">(list(renamed(columns), "")), arg<"excluded">(list(columns, "EXCLUDED.")),
      arg<"c_hash">(hash_of_row(renamed(columns), "p.")),
      arg<"shadow_hash">(hash_of_row(columns, names.shadow_name() + ".")), arg<"rows">(rows));
}

std::string taken_later(const SwapNames& names, const std::string& shadow_oid) {
  return sql::fill<sql::taken_later>(arg<"oid">(names.oid), arg<"shadow_oid">(shadow_oid));
}

Guarded guarded_by(Whose state) {
  switch (state) {
    case Whose::ours:
      return Guarded::yes;
    case Whose::nobodys:
      return Guarded::no_state;
    case Whose::anybodys:
      break;
  }
  return Guarded::no;
}

}  // namespace

std::string create_sql(const SwapNames& names, TransactionLimits limits,
                       const SwapBeginning& beginning) {
  const std::string state_and_log = fill<sql::create_state_and_log>(
      names, limits, arg<"keep_seconds">(beginning.keep_seconds), arg<"cutoff">(beginning.cutoff),
      arg<"rows_before">(beginning.rows_before), arg<"bytes_before">(beginning.bytes_before),
      arg<"taken_names">(taken_names_query(names.oid)));
  const std::string shadow = fill<sql::create_shadow>(
      names, limits,
      arg<"original_indexes">(sql::fill<sql::indexes_by_definition>(arg<"relation">("original"))),
      arg<"shadow_indexes">(sql::fill<sql::indexes_by_definition>(arg<"relation">("shadow_table"))),
      arg<"lines">(definition_lines("item.relation", "0", "item.with_indexes")),
      arg<"taken_later">(taken_later(names, "shadow_table")));
  return transaction(names, limits, "",
                     work(names, limits, state_and_log + shadow, Guarded::creation));
}

std::string try_create_sql(const SwapNames& names, TransactionLimits limits) {
  constexpr std::string_view kCommit = "COMMIT;\n";
  const std::string sql = create_sql(names, limits, {0, "now()", 0, 0});
  return sql.substr(0, sql.size() - kCommit.size()) + "ROLLBACK;\n";
}

std::string create_triggers_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string body =
      fill<sql::create_trigger_function>(names, limits) +
      fill<sql::attach_triggers>(names, limits,
                                 arg<"trigger_mark">(fill<sql::trigger_mark>(names, limits)));
  const std::string locks =
      kQuickCommit + lock_against_vacuum(names, limits, names.table) + kAsked +
      fmt::format("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE;\n", names.table);
  return transaction(names, limits, locks, work(names, limits, body, Guarded::with_helpers),
                     kEnded);
}

std::string copy_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                     long long rows) {
  const std::string body =
      fill<sql::copy>(names, limits, arg<"columns">(list(columns, "")),
                      arg<"t_columns">(list(columns, "t.")), arg<"rows">(rows));
  return transaction(names, limits, by_index(), work(names, limits, body, Guarded::with_triggers));
}

std::string collapse_log_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill<sql::collapse_log>(names, limits));
}

std::string forget_changed_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill<sql::forget_changed>(names, limits));
}

std::string build_indexes_sql(const SwapNames& names, TransactionLimits limits,
                              const Columns& columns) {
  const std::string body = fill<sql::build_indexes>(
      names, limits, arg<"columns">(list(columns, "")), arg<"t_as_c">(list(columns, "t.", true)),
      arg<"c">(list(renamed(columns), "present.")));
  return transaction(names, limits, "SET LOCAL max_parallel_maintenance_workers = 0;\n",
                     work(names, limits, body, Guarded::with_triggers));
}

std::string analyze_sql(const SwapNames& names, TransactionLimits limits) {
  return fill<kBegin>(names, limits) + fmt::format("ANALYZE {};\nCOMMIT;\n", names.shadow());
}

std::string flush_statistics_sql(const SwapNames& names, TransactionLimits limits) {
  return fill<kBegin>(names, limits) + kFlushStatistics + "COMMIT;\n";
}

std::string drain_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                      long long rows) {
  const std::string body =
      kStartClock + drain(names, limits, columns, rows) + fill<kReportDrain>(names, limits);
  return transaction(names, limits, by_index(), work(names, limits, body, Guarded::with_triggers));
}

std::string verify_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns) {
  return transaction(
      names, limits,
      fill<sql::verify>(names, limits, arg<"check_unchanged">(check_unchanged(names, limits)),
                        arg<"t_hash">(hash_of_row(columns, "t.")),
                        arg<"s_hash">(hash_of_row(columns, "s."))));
}

std::string count_live_sql(const SwapNames& names, TransactionLimits limits, CountBy by) {
  const std::string body = by == CountBy::heap    ? fill<kCountByHeap>(names, limits)
                           : by == CountBy::index ? fill<kCountByIndex>(names, limits)
                                                  : fill<kCountByKey>(names, limits);
  return transaction(names, limits, by_index(), work(names, limits, body));
}

// synchronous_commit = off: nobody waits for this lock while a disk or a replica writes. Safe,
// because whatever is committed later comes later in the WAL: if the exchange is lost in a crash,
// then so is all that was written into the shadow. Before the old one is dropped, the WAL is
// written out.
//
// The shadow is locked first: nobody else uses it, but if something does (a dump), it must not be
// waited for under the other lock.
std::string exchange_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                         ExchangeLimits most) {
  const auto compare = [](const std::string& relation, const char* code, const char* what) {
    return sql::fill<sql::compare>(arg<"lines">(definition_lines(relation, "run.function")),
                                   arg<"code">(code), arg<"what">(what));
  };
  const std::string stamp = fill<sql::stamp>(names, limits);
  const std::string touch = fill<sql::touch_columns>(names, limits);
  // A GRANT on a column is waited for here, and not under the exclusive lock.
  const OwnersWork wait_for_grants = work(names, limits, touch, Guarded::no);
  const OwnersWork prepare =
      work(names, limits,
           fill<sql::prepare_exchange>(
               names, limits,
               arg<"compare_original">(compare("run.source", kChanged, "the table was altered")),
               arg<"compare_shadow">(
                   compare("run.shadow", kNotReproduced, "can''t be reproduced in a new table")),
               arg<"stamp">(stamp), arg<"taken_later">(taken_later(names, "run.shadow"))),
           Guarded::with_helpers);
  const OwnersWork exchange =
      work(names, limits,
           fill<sql::exchange>(names, limits, arg<"most_keys">(most.keys),
                               arg<"trigger_mark">(fill<sql::trigger_mark>(names, limits)),
                               arg<"stamp">(stamp), arg<"touch_columns">(touch),
                               arg<"drain_rest">(drain(names, limits, columns, most.keys))),
           Guarded::no, 2);
  const std::string locks = by_index() + kQuickCommit +
                            fmt::format("LOCK TABLE ONLY {}, {} IN ACCESS EXCLUSIVE MODE;\n",
                                        names.shadow(), names.state()) +
                            kNoteWhen;
  const std::string rest =
      exchange.define + fill<sql::shorten_wait>(names, limits) +
      fmt::format(
          "SET LOCAL statement_timeout = {};\n{}LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE;\n"
          "SET LOCAL statement_timeout = {};\n",
          limits.lock.count() + 1000, kAsked, names.table, most.held.count() + 1) +
      exchange.run + kEnded;
  return fill<kBegin>(names, limits) +
         lock_against_vacuum(names, limits, names.table, wait_for_grants) + "COMMIT;\n" +
         drain_sql(names, limits, columns, kMostKeysBeforeLock) +
         transaction(names, limits, locks, prepare, rest);
}

std::string remove_triggers_sql(const SwapNames& names, TransactionLimits limits, Whose state,
                                const std::vector<std::string>& tables) {
  std::string locks = kQuickCommit;
  for (const std::string& table : tables) locks += lock_against_vacuum(names, limits, table);
  locks += kAsked;
  for (const std::string& table : tables)
    locks += fmt::format("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE;\n", table);
  return transaction(
      names, limits, locks,
      work(names, limits, fill<sql::remove_triggers>(names, limits), guarded_by(state)), kEnded);
}

std::string remove_sql(const SwapNames& names, TransactionLimits limits, Whose state) {
  return transaction(names, limits, kQuickCommit,
                     work(names, limits, fill<sql::remove>(names, limits), guarded_by(state)));
}

std::string disable_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string locks =
      kQuickCommit + lock_against_vacuum(names, limits, names.table) + kAsked +
      fmt::format("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE;\n", names.table);
  return transaction(names, limits, locks,
                     work(names, limits, fill<sql::disable>(names, limits), Guarded::with_helpers),
                     kEnded);
}

std::string read_state_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string body = fill<sql::read_state>(
      names, limits, arg<"original_lines">(definition_lines("m.source", "coalesce(m.function, 0)")),
      arg<"is_vacuumed">(kIsVacuumed), arg<"trigger_mark">(fill<sql::trigger_mark>(names, limits)));
  return transaction(names, limits, "", work(names, limits, body, Guarded::hold_state));
}

std::string take_over_sql(const SwapNames& names, TransactionLimits limits,
                          const std::string& former) {
  const std::string body = fill<kTakeOver>(names, limits, arg<"former">(sql_string(former)));
  return transaction(names, limits, "", work(names, limits, body, Guarded::hold_state));
}

std::string reported_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, kQuickCommit,
                     work(names, limits, fill<kReported>(names, limits)));
}

std::string end_lease_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, kQuickCommit,
                     work(names, limits, fill<kEndLease>(names, limits)));
}

std::string renew_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, kQuickCommit, work(names, limits, ""));
}

std::string triggered_tables_query(const SwapNames& names) {
  return fill<sql::triggered_tables>(names, {});
}

std::string search_indexes_query(const SwapNames& names) {
  return fill<sql::search_indexes>(names, {});
}

std::string columns_query(const SwapNames& names) { return fill<kColumns>(names, {}); }

}  // namespace django_session::sessions
