// Fills in the catalogue queries of sql/.
#include "cleanup/table_definition.hpp"

#include "cleanup/sql_files.hpp"
#include "core/sql_text.hpp"

namespace django_session::sessions {
namespace {

// Without its beginning, CREATE INDEX name ON table, so that only what it is counts.
constexpr const char* kIndexDefinition =
    R"(right(pg_get_indexdef(x.oid), -length(format('CREATE %sINDEX %I ON %s ',
      CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, i.indrelid::regclass))))";

}  // namespace

std::string attachments_query(const std::string& oid, const std::string& own_function) {
  return sql::fill<sql::attachments>(
      sql::arg<"oid">(oid), sql::arg<"own_function">(own_function),
      sql::arg<"parts">(sql::fill<sql::table_parts>(sql::arg<"oid">(oid))));
}

std::string definition_lines(const std::string& oid, const std::string& own_function,
                             const std::string& with_indexes) {
  return sql::fill<sql::definition_lines>(
      sql::arg<"oid">(oid), sql::arg<"index_definition">(kIndexDefinition),
      sql::arg<"attachments">(attachments_query(oid, own_function)),
      sql::arg<"with_indexes">(with_indexes));
}

}  // namespace django_session::sessions
