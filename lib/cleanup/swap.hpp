// The method "swap": copies the live sessions into a new table while noting which ones change, and
// then exchanges the two under a short lock.
#pragma once

#include <string>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// A name for a run, unlike any other's: 32 hexadecimal digits.
std::string new_run_id();

/// Begins a swap, or goes on with one that was interrupted, wherever that was: what is in the
/// database decides, never what a client remembers. Called again with the same run_id after a lost
/// connection, it goes on where it was. `plan`: for the figures. `successor` becomes the OID of the
/// table that will have the name.
///
/// Throws pg::Error or Stopped. Where only the time is over, or the end was asked for, what is
/// copied is kept for the next run; else triggers and shadow are taken away again if that is
/// possible within seconds (a note says if it wasn't). Never cancels or ends other sessions.
void swap_table(pg::Connection& connection, const CleanupTarget& target,
                const CleanupOptions& options, const std::string& run_id, const CleanupPlan& plan,
                pg::Deadline run_end, CleanupObserver& observer, CleanupResult& result,
                std::string& successor);

/// Makes the new table and takes it back in one transaction: why a swap would fail there, whatever
/// the catalogue says; empty where it wouldn't. Only where no swap is under way or was interrupted.
/// Locks as a reader does. Throws pg::Error if the connection is lost.
std::string why_a_swap_would_fail(pg::Connection& connection, const CleanupTarget& target,
                                  const CleanupOptions& options);

/// Removes what an interrupted swap left. Throws Stopped if the swap is still under way, or the
/// lock isn't granted; or pg::Error. True if there was anything.
bool remove_swap_leftovers(pg::Connection& connection, const CleanupTarget& target,
                           const CleanupOptions& options, const std::string& run_id,
                           pg::Deadline run_end, CleanupObserver& observer, CleanupResult& result);

}  // namespace django_session::sessions
