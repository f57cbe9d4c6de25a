// For a plan: whether a DELETE works, by trying one.
#pragma once

#include <string>

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"

namespace django_session::sessions {

/// What a DELETE of one session that expired before `cutoff` ends with, which is rolled back; empty
/// where it works, or where nothing can be said now. Runs the triggers. Throws pg::Error if the
/// connection is lost.
std::string why_a_delete_would_fail(Run& run, const DeleteAccess& access,
                                    const std::string& cutoff);

}  // namespace django_session::sessions
