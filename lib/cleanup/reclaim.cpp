// VACUUM, REINDEX CONCURRENTLY and VACUUM FULL, each only where it can succeed, and each bounded.
#include "cleanup/reclaim.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>

#include "cleanup/long_statement.hpp"
#include "cleanup/session_query.hpp"
#include "cleanup/throttle.hpp"
#include "core/index_bloat.hpp"
#include "core/reclaimable.hpp"
#include "core/sql_name.hpp"
#include "measure/catalog_query.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Longer than deadlock_timeout (1 s), after which a waiting request makes autovacuum step aside.
// Who waits with SHARE UPDATE EXCLUSIVE keeps no session from being read or saved.
constexpr milliseconds kQuietLockTimeout{10 * 1000};
constexpr milliseconds kLeftoverLockTimeout{3 * 1000};
// REINDEX CONCURRENTLY waits for every transaction that is older than it; it blocks nobody
// meanwhile.
constexpr milliseconds kReindexLockTimeout{60 * 1000};
constexpr milliseconds kSnapshotPatience{30 * 1000};
constexpr milliseconds kBetweenLooks{500};
constexpr milliseconds kFullLockPatience{10 * 60 * 1000};

// {0} how long to wait for it in ms, {1} for all of it, {2} the table.
constexpr const char* kQuietLock = R"(
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = {0};
SET LOCAL statement_timeout = {1};
LOCK TABLE ONLY {2} IN SHARE UPDATE EXCLUSIVE MODE;
COMMIT;
)";

// {0} the table's OID. MAINTAIN came with PostgreSQL 17. The owner of the database may VACUUM all
// that is in it, but not more.
constexpr const char* kRights = R"(
SELECT current_user AS role, pg_get_userbyid(c.relowner) AS owner,
  pg_has_role(c.relowner, 'USAGE') AS is_owner,
  pg_has_role(d.datdba, 'USAGE') AS is_database_owner,
  CASE WHEN current_setting('server_version_num')::int >= 170000
       THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END AS may_maintain,
  current_setting('server_version_num') AS version
FROM pg_class c, pg_database d
WHERE c.oid = {0} AND d.datname = current_database();
)";

// {0} the table's OID. REINDEX CONCURRENTLY names its new index ..._ccnew, and for a moment the old
// one
// ..._ccold, with a number behind it if there is such a name already; both are invalid as long as
// they have that name.
constexpr const char* kLeftovers = R"(
SELECT n.nspname AS schema, c.relname AS name
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = {0} AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
ORDER BY c.relname;
)";

// {0} the table's OID. Plain B-trees, with what their size follows from: of each column the width
// as stored, the alignment (values of varying length have none as long as they are short), and how
// its values repeat. -1 for a width that isn't known. Django's keys have 32 characters and a length
// byte.
constexpr const char* kIndexes = R"(
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes, t.reltuples AS rows,
  i.indisunique AS "unique", k.widths, k.alignments, k.null_fractions, k.distinct_values,
  coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
            WHERE option_name = 'fillfactor'), '90') AS fillfactor
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am am ON am.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace,
LATERAL (
  SELECT array_agg(w.width ORDER BY key.place) AS widths,
    array_agg(CASE WHEN a.attlen < 0 AND w.width < 127 THEN 1
                   ELSE CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END
              END ORDER BY key.place) AS alignments,
    array_agg(coalesce(s.null_frac, 0) ORDER BY key.place) AS null_fractions,
    array_agg(coalesce(s.n_distinct, 0) ORDER BY key.place) AS distinct_values
  FROM unnest(i.indkey) WITH ORDINALITY key(attnum, place)
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.attnum
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname
    AND s.attname = a.attname AND NOT s.inherited,
  LATERAL (SELECT CASE WHEN a.attlen > 0 THEN a.attlen
                       WHEN a.attname = 'session_key' THEN coalesce(s.avg_width, 33)
                       ELSE coalesce(s.avg_width, -1) END AS width) w) k
WHERE i.indrelid = {0} AND i.indisvalid AND NOT i.indisexclusion
  AND i.indexprs IS NULL AND i.indpred IS NULL AND am.amname = 'btree';
)";

// {0} the table's OID, {1} the index's name as a string. One row if it is unique: its columns, and
// that none of them is NULL, as SQL.
constexpr const char* kUniqueColumns = R"(
SELECT string_agg('s.' || quote_ident(a.attname), ', ' ORDER BY key.place) AS columns,
  string_agg(format('s.%I IS NOT NULL', a.attname), ' AND ') AS not_null
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid,
  unnest(i.indkey) WITH ORDINALITY key(attnum, place)
  JOIN pg_attribute a ON a.attrelid = {0} AND a.attnum = key.attnum
WHERE i.indrelid = {0} AND c.relname = {1} AND i.indisunique AND key.place <= i.indnkeyatts
GROUP BY i.indexrelid;
)";

// {0} the table, {1} and {2} as of kUniqueColumns. TABLESAMPLE: by reading the table, and not by
// the index that is in doubt.
constexpr const char* kTwice = R"(
SELECT count(*) AS twice FROM (SELECT FROM ONLY {0} s TABLESAMPLE SYSTEM (100) WHERE {2}
  GROUP BY {1} HAVING count(*) > 1 LIMIT 1) q)";
constexpr milliseconds kTwiceFor{60 * 1000};

// The server's counters learn of deletions up to seconds after their commit. If that were after
// VACUUM has reported, they would be counted twice: live rows that are there would be missing, and
// dead ones that are gone would be there, until the next VACUUM.
constexpr const char* kFlushStatistics = "SELECT pg_stat_force_next_flush();";
// Before PostgreSQL 15, at the end of a transaction if the last time was half a second before it.
constexpr const char* kFlushStatisticsBefore15 = "SELECT pg_sleep(0.6);";

/// Nothing where a column's width isn't known.
std::optional<double> compact_bytes(const pg::Row& index) {
  const auto widths = index.numbers("widths"), alignments = index.numbers("alignments"),
             nulls = index.numbers("null_fractions"), distinct = index.numbers("distinct_values");
  std::vector<ColumnWidth> columns;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] < 0) return std::nullopt;
    columns.push_back({widths[i], alignments.at(i), nulls.at(i), distinct.at(i)});
  }
  const double rows = std::max(0.0, index.number("rows").value_or(0));
  return compact_index_bytes(rows, columns, index.number("fillfactor").value_or(90),
                             index.flag("unique"));
}

class Reclaim {
 public:
  Reclaim(
      pg::Connection& connection, const CleanupTarget& target, const CleanupOptions& options,
      pg::Deadline run_end, CleanupObserver& observer, LookAround look_around = [] {})
      : connection_(connection),
        target_(target),
        options_(options),
        run_end_(run_end),
        observer_(observer),
        look_around_(std::move(look_around)) {}

  void after_delete(CleanupResult& result) {
    const ReclaimRights rights = read_rights();
    if (!rights.vacuum) {
      result.message = why_nothing_is_reclaimed(rights, target_);
      observer_.on_note(result.message);
      return;
    }
    if (rights.drop) remove_leftovers();
    // VACUUM is worth its half of the time all the same.
    const std::string holder = wait_for_old_snapshots(run_end_.remaining() / 2);
    flush_statistics(rights.version);
    vacuum();
    if (!holder.empty()) return say_what_is_left(holder, result);
    if (rights.reindex && reindex_is_sound(rights)) rebuild_bloated_indexes(result);
  }

  void full(CleanupResult& result) {
    const ReclaimRights rights = read_rights();
    if (!rights.vacuum)
      throw pg::Error(pg::Error::Kind::statement,
                      fmt::format("role {} may not VACUUM {}: that needs its owner, {}",
                                  rights.role, target_.sql_name, rights.owner));
    const std::string holder = wait_for_old_snapshots(run_end_.remaining() - kBetweenLooks);
    if (!holder.empty())
      throw Stopped("the space of what is deleted can't be given back before this ends: " + holder);
    flush_statistics(rights.version);
    rewrite(result);
  }

  int remove_leftovers_if_allowed() { return read_rights().drop ? remove_leftovers() : 0; }

  int remove_leftovers() {
    int removed = 0;
    for (const pg::Row& row : ask(kLeftovers))
      removed += drop_leftover(row.text("schema"), row.text("name")) ? 1 : 0;
    return removed;
  }

 private:
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  pg::Rows ask(const char* query) {
    return ask_catalog(connection_, fmt::format(fmt::runtime(query), target_.oid), soon());
  }

  ReclaimRights read_rights() { return reclaim_rights(connection_, target_.oid, soon()); }

  void flush_statistics(int version) {
    ask_catalog(connection_, version >= 150000 ? kFlushStatistics : kFlushStatisticsBefore15,
                soon());
  }

  void show_phase(const std::string& phase) { observer_.on_progress({phase, 0, 0, 0}); }

  /// What was deleted can only be removed when nobody can see it any more. Who still can when we
  /// have waited long enough; empty when nobody can.
  std::string wait_for_old_snapshots(milliseconds longest) {
    show_phase("waiting for older transactions");
    const std::string mark = snapshot_mark(connection_, soon());
    const auto patience = pg::Deadline::after(std::min(kSnapshotPatience, longest));
    for (;;) {
      const auto holders = older_snapshots(connection_, mark, soon());
      if (holders.empty()) return "";
      if (patience.passed()) return holders.front();
      pause_for(kBetweenLooks, run_end_, observer_);
    }
  }

  /// REINDEX CONCURRENTLY would wait for the holder, or copy what the holder still wants to see.
  void say_what_is_left(const std::string& holder, CleanupResult& result) {
    result.message = fmt::format(
        "vacuumed, but the space of what was deleted can't be reused, and the indexes are not "
        "rebuilt, before this ends: {}",
        holder);
    observer_.on_note(result.message);
  }

  /// Without truncation: that would take an exclusive lock, which standbys replay without yielding.
  void vacuum() {
    show_phase("vacuuming");
    look_around_();
    const bool done = granted([this] {
      connection_.take_warnings();
      run_long(connection_,
               fmt::format("VACUUM (ANALYZE, TRUNCATE FALSE, INDEX_CLEANUP TRUE, PARALLEL 0) {}",
                           target_.sql_name),
               kQuietLockTimeout, options_, run_end_, observer_);
      pass_warnings_on();
    });
    if (!done)
      throw Stopped("VACUUM's lock was never granted: " +
                    lock_holders(connection_, target_.oid, soon()));
  }

  /// Most of all "skipping ... only table or database owner can vacuum it".
  void pass_warnings_on() {
    for (const std::string& warning : connection_.take_warnings())
      observer_.on_note("the server warns: " + warning);
  }

  /// 14.0 to 14.3 build indexes that lack entries (release notes of 14.4).
  bool reindex_is_sound(const ReclaimRights& rights) {
    const bool sound = rights.version < 140000 || rights.version >= 140004;
    if (!sound)
      observer_.on_note("no REINDEX CONCURRENTLY: this server's has a bug; 14.4 fixes it");
    return sound;
  }

  std::vector<IndexBloat> measure_indexes() {
    std::vector<IndexBloat> result;
    for (const pg::Row& row : ask(kIndexes))
      if (const auto compact = compact_bytes(row))
        result.push_back({row.text("name"), row.number("bytes").value_or(0), *compact});
    return result;
  }

  void rebuild_bloated_indexes(CleanupResult& result) {
    for (const IndexBloat& index : worth_rebuilding(measure_indexes())) {
      stop_if_wanted(observer_, run_end_);
      wait_for_calm(connection_, options_, run_end_, observer_);
      look_around_();
      const std::string why_not = why_it_stays_bloated(index);
      if (why_not.empty()) {
        rebuild(index);
      } else {
        result.message += (result.message.empty() ? "" : "; ") + why_not;
        observer_.on_note(why_not);
      }
    }
  }

  /// Where the table holds twice what a unique index lets in once (a damaged index does let it in),
  /// REINDEX fails, and the server's log has the value: a session's key.
  std::string why_it_stays_bloated(const IndexBloat& index) {
    const pg::Rows unique = ask_catalog(
        connection_, fmt::format(kUniqueColumns, target_.oid, connection_.literal(index.name)),
        soon());
    if (unique.empty()) return "";
    show_phase("checking index " + index.name);
    const std::string select = fmt::format(kTwice, target_.sql_name, unique.front().text("columns"),
                                           unique.front().text("not_null"));
    const auto limit = pg::Deadline::after(std::min(kTwiceFor, run_end_.remaining()));
    const auto twice = ask_sessions(
        connection_, target_, who_may_read(connection_, target_, soon()), {"twice"}, select, limit);
    const std::string name = sql_index(target_.schema, index.name);
    if (!twice)
      return fmt::format(
          "index {} is not rebuilt: that nothing is there twice, which the server's log would "
          "show, "
          "couldn't be seen; that takes {}, or a member",
          name, sql_identifier(target_.owner));
    if (twice->number("twice") == 0.0) return "";
    return fmt::format(
        "index {0} is not rebuilt, since it is damaged: the table holds twice what it lets in "
        "once; "
        "delete what is there twice, then run REINDEX INDEX CONCURRENTLY {0}",
        name);
  }

  void rebuild(const IndexBloat& index) {
    show_phase("rebuilding index " + index.name);
    try {
      run_long(connection_,
               fmt::format("REINDEX INDEX CONCURRENTLY {}", sql_index(target_.schema, index.name)),
               kReindexLockTimeout, options_, run_end_, observer_);
    } catch (const Stopped&) {
      remove_leftovers();
      throw;
    } catch (const pg::Error& error) {
      if (error.kind() != pg::Error::Kind::statement) throw;
      connection_.finish(soon());
      observer_.on_note(fmt::format("index {} was not rebuilt: {}", index.name, error.what()));
      remove_leftovers();
    }
    pass_warnings_on();
  }

  std::string sql_index(const std::string& schema, const std::string& name) const {
    return connection_.identifier(schema) + "." + connection_.identifier(name);
  }

  /// Not stoppable, but short: it is what a stop leaves to do.
  bool drop_leftover(const std::string& schema, const std::string& name) {
    const auto limit = kLeftoverLockTimeout + options_.answer_timeout;
    CleanupObserver& observer = observer_;
    try {
      Unstoppable unstoppable(observer);
      run_long(connection_, "DROP INDEX CONCURRENTLY IF EXISTS " + sql_index(schema, name),
               kLeftoverLockTimeout, options_, pg::Deadline::after(limit), unstoppable);
      observer.on_note(fmt::format("removed index {}, left by an interrupted REINDEX", name));
      return true;
    } catch (const Stopped&) {
      observer.on_note(fmt::format("index {}, left by an interrupted REINDEX, is in use", name));
    } catch (const pg::Error& error) {
      if (error.kind() != pg::Error::Kind::statement) throw;
      connection_.finish(soon());
      observer.on_note(
          fmt::format("index {}, left by an interrupted REINDEX, can't be removed now: {}", name,
                      error.what()));
    }
    return false;
  }

  /// Passes on what is told, and doesn't ask.
  class Unstoppable : public CleanupObserver {
   public:
    explicit Unstoppable(CleanupObserver& observer) : observer_(observer) {}
    bool stop_requested() override { return false; }
    void on_progress(const CleanupProgress& progress) override { observer_.on_progress(progress); }
    void on_note(const std::string& line) override { observer_.on_note(line); }

   private:
    CleanupObserver& observer_;
  };

  void rewrite(CleanupResult& result) {
    show_phase("waiting for the exclusive lock");
    const auto patience = pg::Deadline::after(kFullLockPatience);
    while (!try_to_rewrite(result)) {
      if (patience.passed())
        throw Stopped("the exclusive lock was never granted: " +
                      lock_holders(connection_, target_.oid, soon()));
      pause_for(jittered(2000), run_end_, observer_);
    }
  }

  /// False when the lock wasn't granted. While we wait for it everybody queues behind us, so it is
  /// a matter of options.lock_timeout; but that is too short for autovacuum, which steps aside
  /// after deadlock_timeout. It is made to by a request for a lock that disturbs nobody else. It
  /// comes back at the earliest when its launcher looks again.
  bool try_to_rewrite(CleanupResult& result) {
    if (!displace_autovacuum()) return false;
    look_around_();
    const auto start = Clock::now();
    const bool done = rewrite_once();
    const auto locked = std::chrono::duration_cast<milliseconds>(Clock::now() - start);
    result.longest_lock = std::max(result.longest_lock, locked);
    return done;
  }

  bool displace_autovacuum() {
    return granted([this] {
      const auto limit = kLeftoverLockTimeout + options_.answer_timeout;
      const auto deadline = pg::Deadline::after(limit);
      connection_.send(
          fmt::format(kQuietLock, kLeftoverLockTimeout.count(), limit.count(), target_.sql_name),
          deadline);
      while (connection_.next_rows(deadline)) continue;
    });
  }

  bool rewrite_once() {
    return granted([this] {
      connection_.take_warnings();
      run_long(connection_, fmt::format("VACUUM (FULL, ANALYZE) {}", target_.sql_name),
               options_.lock_timeout, options_, run_end_, observer_);
      pass_warnings_on();
    });
  }

  template <class Call>
  bool granted(Call call) {
    try {
      call();
      return true;
    } catch (const pg::Error& error) {
      if (!error.lock_not_available()) throw;
      connection_.finish(soon());
      return false;
    }
  }

  /// So that we don't always meet the same job of somebody else's.
  milliseconds jittered(int longest_ms) {
    return milliseconds(std::uniform_int_distribution<int>(longest_ms / 4, longest_ms)(random_));
  }

  pg::Connection& connection_;
  const CleanupTarget& target_;
  const CleanupOptions& options_;
  pg::Deadline run_end_;
  CleanupObserver& observer_;
  LookAround look_around_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace

ReclaimRights reclaim_rights(pg::Connection& connection, const std::string& oid,
                             pg::Deadline deadline) {
  const pg::Rows rows = ask_catalog(connection, fmt::format(kRights, oid), deadline);
  if (rows.empty()) throw pg::Error(pg::Error::Kind::statement, "the table is gone");
  const pg::Row& row = rows.front();
  ReclaimRights rights{row.text("role"), row.text("owner")};
  rights.drop = row.flag("is_owner");
  rights.reindex = row.flag("is_owner") || row.flag("may_maintain");
  rights.vacuum = rights.reindex || row.flag("is_database_owner");
  rights.version = static_cast<int>(row.number("version").value_or(0));
  return rights;
}

std::string why_nothing_is_reclaimed(const ReclaimRights& rights, const CleanupTarget& target) {
  if (rights.vacuum) return "";
  const std::string role = sql_identifier(rights.role);
  std::string text = fmt::format(
      "not vacuumed: role {} may neither VACUUM nor REINDEX {}; that is left to autovacuum, or to "
      "{}",
      role, target.sql_name, sql_identifier(rights.owner));
  if (rights.version >= 170000)
    text += fmt::format(", or GRANT MAINTAIN ON {} TO {}", target.sql_name, role);
  return text;
}

void reclaim_after_delete(pg::Connection& connection, const CleanupTarget& target,
                          const CleanupOptions& options, pg::Deadline run_end,
                          CleanupObserver& observer, CleanupResult& result,
                          const LookAround& look_around) {
  Reclaim(connection, target, options, run_end, observer, look_around).after_delete(result);
}

void vacuum_full(pg::Connection& connection, const CleanupTarget& target,
                 const CleanupOptions& options, pg::Deadline run_end, CleanupObserver& observer,
                 CleanupResult& result, const LookAround& look_around) {
  Reclaim(connection, target, options, run_end, observer, look_around).full(result);
}

int remove_reindex_leftovers(pg::Connection& connection, const CleanupTarget& target,
                             const CleanupOptions& options, CleanupObserver& observer) {
  const auto run_end = pg::Deadline::after(options.answer_timeout);
  return Reclaim(connection, target, options, run_end, observer).remove_leftovers_if_allowed();
}

}  // namespace django_session::sessions
