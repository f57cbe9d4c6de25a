// The name of a session table as users write it: `[SCHEMA.]TABLE`.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

struct TableName {
  std::string schema;  ///< empty: wherever the search_path finds the table
  std::string table;

  std::string display() const { return schema.empty() ? table : schema + "." + table; }
};

/// Letters count as they are written, as in Django's db_table; double quotes are needed only around
/// a name with a dot, quote, ':' or '=' in it ("odd.name", quotes doubled). Throws ConfigError
/// for an empty, overlong (63 bytes) or misquoted name.
TableName parse_table_name(std::string_view text);

}  // namespace django_session
