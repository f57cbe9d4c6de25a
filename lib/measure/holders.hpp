// Who holds something that others wait for, or would have removed: in words, and how to end it.
#pragma once

#include <string>

#include "core/measurement.hpp"
#include "pg/rows.hpp"

namespace django_session::sessions {

/// A row with kind, name, role, application and seconds: of sql/snapshot_holders.sql, or of a query
/// for locks.
Holder read_holder(const pg::Row& row);

/// Who may still want to see what was there when a snapshot_mark() was taken, oldest first.
/// `condition`: what else must hold of the row `holder`.
std::string snapshot_holders_query(const std::string& mark, const char* condition);

/// Those who keep VACUUM from removing what was deleted since they began: for a minute or more, as
/// far as this role may see it.
std::string dead_row_holders_query();

}  // namespace django_session::sessions
