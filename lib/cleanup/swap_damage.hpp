// Where table and shadow, or table and index, disagree: which index is damaged, and what to run.
#pragma once

#include <string>

#include "cleanup/swap_run.hpp"

namespace django_session::sessions {

/// Of the ways by which a swap finds sessions: those that don't find all that the table holds.
/// "nothing was exchanged; index ... lacks 3 live sessions; run REINDEX ...". Reads the table.
std::string what_is_damaged(SwapRun& swap);

/// Of sessions that are in the table twice: the shadow has unique indexes only where the table has.
std::string who_let_them_in(SwapRun& swap);

}  // namespace django_session::sessions
