// A table's definition as lines of text, so that two tables, or one table at two times, can be
// compared.
#pragma once

#include <string>

namespace django_session::sessions {

/// An SQL expression, text[]: all of the table's definition but its name and what is in it. Two
/// tables with equal lines are the same in `pg_dump -s`. Reads the catalogues alone. `oid`: an SQL
/// expression for the table. `own_function`: one for the OID of the trigger function whose triggers
/// don't count. `with_indexes`: one for whether those, and the primary key, do.
std::string definition_lines(const std::string& oid, const std::string& own_function,
                             const std::string& with_indexes = "true");

/// An SQL query: object, reason; one row for each thing that is attached to the table and would
/// stay behind with the old one if a new table took its place. `oid`, `own_function`: as above.
std::string attachments_query(const std::string& oid, const std::string& own_function);

}  // namespace django_session::sessions
