// Whether the server's clock may decide which sessions have expired. A wrong one would log every
// user out.
#pragma once

#include <optional>
#include <string>

#include "cleanup/run.hpp"
#include "cleanup/session_query.hpp"

namespace django_session::sessions {

/// What speaks against the server's clock, as the end of a sentence about it: it differs by more
/// than --max-clock-skew from this machine's, or from what the server itself remembers. What the
/// answer's way takes is not held against it. Throws pg::Error.
std::optional<std::string> doubt_about_the_clock(Run& run);

/// The same, by the sessions of the run's table: none is live, and those that are being saved just
/// now have already expired, by more than that. Where none is live it watches the table for two
/// seconds; a site that rests saves none. Throws pg::Error.
std::optional<std::string> doubt_by_new_sessions(Run& run, ReadingAs who);

}  // namespace django_session::sessions
