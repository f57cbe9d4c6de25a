// Cleaning a session table up online: the one way in for the command and for collectd's write hook.
#pragma once

#include "core/cleanup.hpp"
#include "core/cleanup_outline.hpp"
#include "core/table_name.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// Read-only: what would be done, how, and why. Throws pg::Error, NoSuchTable, or Stopped where another
/// session has locked the table.
DryRun plan_cleanup(const pg::Parameters& parameters, const TableName& table,
                    const CleanupOptions& options);

/// Plans, then does it. Failures are results, not exceptions. Safe to be killed at any moment; the
/// next run resumes or cleans up.
CleanupResult run_cleanup(const pg::Parameters& parameters, const TableName& table,
                          const CleanupOptions& options, CleanupObserver& observer);

/// Removes what an interrupted run left: trigger, key log, shadow table, invalid indexes.
CleanupResult abort_cleanup(const pg::Parameters& parameters, const TableName& table,
                            const CleanupOptions& options, CleanupObserver& observer);

}  // namespace django_session::sessions
