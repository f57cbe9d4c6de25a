// How the sessions that stay are stored, for the plan: they may be much larger or smaller than
// those that have expired.
#pragma once

#include <optional>

#include "cleanup/run.hpp"
#include "cleanup/session_query.hpp"
#include "core/measurement.hpp"

namespace django_session::sessions {

/// Of the run's table, by the sizes of the values of some thousand rows, of which no value is read.
/// Nothing where none stays, or the columns may not be read. Throws pg::Error if the connection is
/// lost.
std::optional<StayingRows> look_at_what_stays(Run& run, ReadingAs who,
                                              const Measurement& measurement, pg::Deadline limit);

/// Of a row of amounts; nothing where no row was found.
std::optional<StayingRows> read_staying_rows(const pg::Row& row, std::size_t columns);

}  // namespace django_session::sessions
