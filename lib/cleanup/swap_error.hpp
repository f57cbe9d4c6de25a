// What an error of one of a swap's messages means.
#pragma once

#include "cleanup/swap_sql.hpp"
#include "pg/error.hpp"

namespace django_session::sessions {

inline bool is(const pg::Error& error, const char* sqlstate) {
  return error.sqlstate() == sqlstate;
}

/// Of a lock that another session needs longer: tried again, so that nobody waits for us for
/// nothing.
inline bool is_given_way(const pg::Error& error) {
  return error.lock_not_available() || error.deadlock();
}

/// Worth another try after a while: the lock was not granted, what was to be done under it took too
/// long, or the server chose us in a deadlock.
inline bool is_lock_trouble(const pg::Error& error) {
  return is_given_way(error) || error.statement_timed_out();
}

inline bool is_taken_over(const pg::Error& error) { return is(error, kTakenOver); }

/// The table is no longer what it was when copying began.
inline bool is_changed(const pg::Error& error) { return is(error, kChanged); }

/// A table or schema isn't found: one of the swap's, which was renamed, moved or dropped while we
/// waited for its lock, or one that the site's code looks for.
inline bool is_gone(const pg::Error& error) { return is(error, "42P01") || is(error, "3F000"); }

/// Two rows of one key.
inline bool is_unique_violation(const pg::Error& error) { return is(error, "23505"); }

/// "tuple concurrently updated": a GRANT, which takes no lock on the table, was quicker.
inline bool is_concurrent_grant(const pg::Error& error) { return is(error, "XX000"); }

}  // namespace django_session::sessions
