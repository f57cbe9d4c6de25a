// How the sessions that stay are stored, for the plan: they may be much larger or smaller than
// those that have expired.
#pragma once

#include <chrono>
#include <optional>

#include "cleanup/cleanup_target.hpp"
#include "cleanup/session_query.hpp"
#include "core/measurement.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// Whose sessions are looked at, by whom, and what is kept beyond those that are live.
struct StayingSessions {
  const CleanupTarget& target;
  ReadingAs who;
  std::chrono::seconds keep;
};

/// By the sizes of the values of some thousand rows, of which no value is read. Nothing where none
/// stays, or the columns may not be read. Throws pg::Error if the connection is lost.
std::optional<StayingRows> look_at_what_stays(pg::Connection& connection,
                                              const StayingSessions& sessions,
                                              const Measurement& measurement, pg::Deadline limit);

}  // namespace django_session::sessions
