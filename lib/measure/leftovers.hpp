// What a swap that was interrupted, or is running, has in the database: seen in the catalogues
// alone, by whatever role. For the pre-flight, --abort, the check and the plugin.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/oid.hpp"
#include "pg/rows.hpp"

namespace django_session::sessions {

/// The first key of the advisory lock that a cleanup holds while it runs: "djsc" in ASCII.
constexpr int kCleanupLock = 0x646a7363;

/// A condition on that lock of table `oid` in pg_locks; `lock` is what pg_locks is called there.
/// `oid`: SQL. Behind a pooler in transaction mode it is held by each batch of a deletion alone.
std::string is_cleanup_lock(std::string_view lock, std::string_view oid);

struct Leftovers {
  std::vector<std::string>
      objects;           ///< for people: "trigger djs_16400_changed", "table public.djs_16400_log"
  bool state = false;    ///< the state table is there
  bool logging = false;  ///< an enabled trigger writes into the log: it grows
  double log_bytes = 0;  ///< of the keys' log
  double bytes = 0;      ///< of all of it
  std::optional<double> age;   ///< seconds since the swap began
  std::optional<double> keep;  ///< its --keep, in seconds
  /// OIDs of tables that no longer exist but have helpers of the same owner.
  std::vector<Oid> orphans;

  bool any() const { return !objects.empty(); }
};

/// A SELECT of one row. `oid`: the session table's. No lock on the table, no right needed.
std::string leftovers_query(Oid oid);

/// A SELECT, without a semicolon, of object and reason: what others have under the names that a
/// swap of the table needs. It is left alone, and so is the table.
std::string taken_names_query(Oid oid);

/// A SELECT: object, for people; once all that could be removed is removed: what is still there
/// under the helpers' names, because it belongs to another role or is where the owner may not go.
std::string left_behind_query(Oid oid);

Leftovers read_leftovers(const pg::Row& row);

/// A SELECT of object, bytes, keepers and remedies: the helpers that can't be dropped, because of
/// what others have made, and those that a swap had to keep for that reason: empty, and under other
/// names, which are not among the leftovers; and a swap's tables that someone has renamed.
std::string what_stays_query(Oid oid);

/// Of a row of that, for people: what depends on it, and what to run.
std::string describe_what_stays(const pg::Row& row);

/// "an interrupted swap: trigger ...; 3 MB, started 2 h ago"; empty without any. `whose`: how it
/// begins.
std::string describe_leftovers(const Leftovers& leftovers,
                               std::string_view whose = "a running or interrupted swap");

}  // namespace django_session::sessions
