// How every transaction of ours begins.
#pragma once

#include <chrono>
#include <string>

namespace django_session::sessions {

enum class Access { read_only, read_write };

/// BEGIN and settings, which end with the transaction: SET LOCAL, because behind a pooler the next
/// one on this backend is somebody else's. Nothing but pg_catalog is looked into from here on:
/// neither an operator that somebody has put into `public` nor a temporary table that is called
/// like a catalogue is taken for the system's. What a CHECK says is not evaluated for a plan.
/// Dates are ISO. `first`: statements for which the session's search_path still holds.
std::string begin_transaction(Access access, std::chrono::milliseconds lock_timeout,
                              std::chrono::milliseconds statement_timeout,
                              const std::string& first = "");

/// The planner must take an index, whatever it believes about the number of rows: a wrong guess
/// would read the whole table.
inline constexpr const char* kByIndex = R"(
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL max_parallel_workers_per_gather = 0;
)";

}  // namespace django_session::sessions
