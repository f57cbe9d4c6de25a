// What the steps of a cleanup share: the table they work on, and how they stop early.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/oid.hpp"
#include "measure/leftovers.hpp"

namespace django_session::sessions {

/// Both keys of the advisory lock of a cleanup, as SQL; the second is the table's OID as a signed
/// number. Each batch of a deletion takes it for its transaction, which holds behind a pooler, too; on
/// a direct connection every run takes it for the session.
inline std::string cleanup_lock(Oid oid) {
  return fmt::format("{}, {}", kCleanupLock, static_cast<std::int32_t>(oid.number()));
}

/// The session table of a running cleanup, as the pre-flight found it.
struct CleanupTarget {
  Oid oid;
  std::string schema, table;  ///< as in the catalogue, not quoted
  std::string sql_name;       ///< "schema"."table", quoted for SQL
  std::string owner;          ///< role name, not quoted
  double bytes_before = 0;    ///< table, TOAST and indexes
};

/// The cleanup ends here, before its end, and may be run again: what() says why ("interrupted; run
/// it again to continue", "the lock was never granted: pid 4711 ..."). Becomes Outcome::stopped.
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;

  std::string blocked_by;  ///< "{4711,4712}": pids of who kept a long statement waiting just then
};

/// Another cleanup is running on the table, or was until a moment ago: nothing is wrong.
class LeftToAnother : public Stopped {
 public:
  using Stopped::Stopped;
};

/// Nothing is wrong, there is just no time now: what is done may be kept for the next run.
class Paused : public Stopped {
 public:
  using Stopped::Stopped;
};

}  // namespace django_session::sessions
