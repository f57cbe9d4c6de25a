// Whether the server's clock may decide which sessions have expired. A wrong one would log
// everybody out.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "cleanup/cleanup_target.hpp"
#include "cleanup/session_query.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// What speaks against the server's clock, as the end of a sentence about it: it differs by more
/// than `most_skew` from this machine's, or from what the server itself remembers. What the
/// answer's way takes is not held against it. Throws pg::Error.
std::optional<std::string> doubt_about_the_clock(pg::Connection& connection,
                                                 std::chrono::milliseconds most_skew,
                                                 pg::Deadline deadline);

/// The same, by the sessions themselves: none is live, and those that are being saved just now have
/// already expired, by more than `most_skew`. Where none is live it watches the table for two
/// seconds; a site that rests saves none. Throws pg::Error.
std::optional<std::string> doubt_by_new_sessions(pg::Connection& connection,
                                                 const CleanupTarget& target, ReadingAs who,
                                                 std::chrono::milliseconds most_skew);

}  // namespace django_session::sessions
