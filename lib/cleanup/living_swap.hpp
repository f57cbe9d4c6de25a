// Whether a swap of the table is running, seen from another cleanup. Behind a pooler no session's
// lock shows it.
#pragma once

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"

namespace django_session::sessions {

/// Throws Stopped if one is. An index that is rebuilt under it would make it lose what it has
/// copied. To be asked before each step that changes the table.
void stop_if_a_swap_lives(Run& run, const DeleteAccess& access);

}  // namespace django_session::sessions
