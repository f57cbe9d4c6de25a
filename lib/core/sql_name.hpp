// Names and strings as SQL, for advice that a person pastes into psql, and for what is pure. What
// has a connection is quoted by libpq.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

/// Whether a line of output repeats `text` as it is: it has no control characters, no bytes that
/// aren't UTF-8, and no '|', at which Nagios' text ends.
bool survives_printing(std::string_view text);

/// `name` as it is where that reads back as the same name, else in double quotes, with escapes
/// (U&"...") for what doesn't survive printing.
std::string sql_identifier(std::string_view name);

/// `schema.table`, each quoted where needed.
std::string sql_table(std::string_view schema, std::string_view table);

/// `sql`, which the server has put together, with its quoted names as sql_identifier() has them: a
/// name that is changed to be printed could be another object's.
std::string with_printable_names(std::string_view sql);

/// `"schema"."table"`, as regclass reads it: to be quoted in its turn, by one of the next two or
/// for a shell.
std::string table_text(std::string_view schema, std::string_view table);

/// `text` as a string in SQL, whatever standard_conforming_strings is.
std::string sql_string(std::string_view text);

/// The same for a person to paste: with escapes for what doesn't survive printing.
std::string printable_string(std::string_view text);

/// `code` as a string in SQL (E'...'), whatever standard_conforming_strings is, and with no tag
/// like $$ that a name in it could end.
std::string sql_code(std::string_view code);

}  // namespace django_session
