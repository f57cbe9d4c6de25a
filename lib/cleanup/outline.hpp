// What a run would do, said before it does it: for a plan.
#pragma once

#include "cleanup/planner.hpp"
#include "cleanup/run.hpp"
#include "core/cleanup_outline.hpp"

namespace django_session::sessions {

/// Of the method that was chosen: the cutoff alone where that is refused, cutoff and SQL where there
/// is nothing to do. Asks the catalogue, and changes nothing. Throws pg::Error.
CleanupOutline outline_of(Run& run, const Planned& planned);

}  // namespace django_session::sessions
