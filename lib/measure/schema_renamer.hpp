// Who can make a table's name mean another table, although the table is locked: no lock on a table
// keeps its schema from being renamed.
#pragma once

#include <string>

namespace django_session::sessions {

/// A scalar subquery: the name of a role that can rename the schema `n` (a row of pg_namespace),
/// and so put another table in the place of one of its, and that can't do anyway what the role can
/// that `runner` (an alias of a row of pg_roles) names; NULL if there is none. What changes it, a
/// superuser does, or such a role.
std::string schema_renamer(const std::string& runner);

}  // namespace django_session::sessions
