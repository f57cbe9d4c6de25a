// The plan: what the pre-flight found, what the table holds, and what is decided by it.
#pragma once

#include <string>

#include "cleanup/preflight.hpp"
#include "cleanup/run.hpp"
#include "core/cleanup_plan.hpp"
#include "core/measurement.hpp"
#include "core/table_name.hpp"

namespace django_session::sessions {

struct Planned {
  Measurement measurement;
  Preflight preflight;
  CleanupPlan plan;
};

/// Finds out which table is meant, where the search_path decides, measures it, and has the run work
/// on it. No plan. Over the run's one connection, which may be all that there is: a pool of one.
/// Throws pg::Error or NoSuchTable.
Planned inspect(Run& run, const TableName& table);

/// The same, with a plan. Changes nothing.
Planned plan(Run& run, const TableName& table);

/// The moment before which what has expired is deleted, as text: by the server's clock, now.
std::string cutoff_of(Run& run);

}  // namespace django_session::sessions
