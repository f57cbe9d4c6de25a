// What django_session_cleanup prints on its output: the plan, and the summary line at the end.
#pragma once

#include <string>

#include "core/cleanup.hpp"
#include "core/cleanup_outline.hpp"

namespace django_session::nagios {

/// Several lines for a person: method and why, what else isn't possible, rows, sizes, needs, what
/// happens on the way; below it the SQL, if there is any.
std::string write_plan(const std::string& table, const DryRun& dry_run);

enum class Audience { monitoring, person };  ///< of a pipe or a file; of a terminal

/// "DJANGO_SESSION_CLEANUP DONE - ... | perfdata", with its newline; a person gets no perfdata.
std::string write_summary(const CleanupResult& result, Audience audience);

}  // namespace django_session::nagios
