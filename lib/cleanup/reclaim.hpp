// The second half of the method "delete": giving back the space of what was deleted.
#pragma once

#include <functional>
#include <string>

#include "cleanup/run.hpp"

namespace django_session::sessions {

/// Called before each statement that changes the table; may throw, and so end the cleanup.
using LookAround = std::function<void()>;

/// VACUUM, and REINDEX CONCURRENTLY of indexes that are at least a third empty, smallest first.
/// Without the right to do so it is left to autovacuum, which a note and the result's message say.
/// Where an old snapshot keeps what was deleted alive, there is the VACUUM alone, and the note.
void reclaim_after_delete(Run& run, const LookAround& look_around);

std::string sql_of_vacuum(const Run& run, int version);

}  // namespace django_session::sessions
