// Names and strings as SQL, for advice that a person pastes into psql, and for what is pure. What
// has a connection is quoted by libpq.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

/// `name` as it is where that reads back as the same name, else in double quotes.
std::string sql_identifier(std::string_view name);

/// `schema.table`, each quoted where needed.
std::string sql_table(std::string_view schema, std::string_view table);

/// `text` as a string in SQL, whatever standard_conforming_strings is.
std::string sql_string(std::string_view text);

/// `code` as a string in SQL (E'...'), whatever standard_conforming_strings is, and with no tag
/// like $$ that a name in it could end.
std::string sql_code(std::string_view code);

}  // namespace django_session
