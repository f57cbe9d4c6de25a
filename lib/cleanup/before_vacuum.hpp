// What a VACUUM waits for: that nobody sees any more what was deleted, and that the server's
// counters know of it.
#pragma once

#include <chrono>
#include <string>

#include "cleanup/run.hpp"

namespace django_session::sessions {

/// What was deleted can only be removed when nobody can see it any more. Waits for that, for
/// `longest` at most, and never for long. Who still can see it then; empty where nobody can.
std::string wait_for_old_snapshots(Run& run, std::chrono::milliseconds longest);

/// Of this connection. `version`: server_version_num.
void flush_statistics(Run& run, int version);

/// The run's table for VACUUM, which from PostgreSQL 18 on would take those that inherit from it, too.
std::string table_alone(const Run& run, int version);

}  // namespace django_session::sessions
