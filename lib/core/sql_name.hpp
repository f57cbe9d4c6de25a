// Names as SQL, for advice that a person pastes into psql. What we send ourselves is quoted by
// libpq.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

/// `name` as it is where that reads back as the same name, else in double quotes.
std::string sql_identifier(std::string_view name);

/// `schema.table`, each quoted where needed.
std::string sql_table(std::string_view schema, std::string_view table);

}  // namespace django_session
