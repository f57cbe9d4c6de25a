// The method "swap": copies the live sessions into a new table while logging which ones change, and
// then exchanges the two under a short lock.
#pragma once

#include <string>
#include <vector>

#include "cleanup/run.hpp"
#include "core/cleanup.hpp"

namespace django_session::sessions {

/// Begins a swap, or resumes one that was interrupted, wherever that was: what is in the database
/// decides, never what a client remembers. Called again in the same run after a lost connection, it
/// resumes where it was. `plan`: for the figures. `shadow_oid` becomes the OID of the table that
/// will have the name.
///
/// Throws pg::Error or Stopped. Where only the time is over, or the end was asked for, what is
/// copied is kept for the next run; else triggers and shadow are removed again if that is possible
/// within seconds (a note says if it wasn't). Never cancels or ends other sessions.
void swap_table(Run& run, const CleanupPlan& plan, Oid& shadow_oid);

/// The messages of a swap that begins now, in order, each once and with a comment before it.
/// `cutoff`: as text, see Run::cutoff().
std::vector<std::string> sql_of_swap(Run& run, const CleanupPlan& plan, const std::string& cutoff);

/// Makes the shadow and rolls it back in one transaction: why a swap would fail there, whatever the
/// catalogue says; empty where it wouldn't. Only where no swap is running or was interrupted. Locks
/// as a reader does. Throws pg::Error if the connection is lost.
std::string why_a_swap_would_fail(Run& run);

/// Removes what an interrupted swap left. Throws Stopped if the swap is still running, or the lock
/// isn't granted; or pg::Error. True if there was anything.
bool remove_swap_leftovers(Run& run);

}  // namespace django_session::sessions
