// What we can do is compared with what the owner can do.
//
// Where the two can't be compared exactly, there is more: it costs a plainer answer, or a role of
// its own, while the opposite would give rights away.
#include "measure/more_rights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/sql_text.hpp"
#include "measure/sql_files.hpp"

namespace django_session::sessions {
namespace {

/// A catalogue whose rows have an owner and a list of rights.
struct Granting {
  const char *catalog, *rows, *owner, *acl;
};

constexpr Granting kGranting[] = {
    {"pg_class", "pg_class", "relowner", "relacl"},
    {"pg_proc", "pg_proc", "proowner", "proacl"},
    {"pg_type", "pg_type", "typowner", "typacl"},
    {"pg_namespace", "pg_namespace", "nspowner", "nspacl"},
    {"pg_language", "pg_language", "lanowner", "lanacl"},
    {"pg_foreign_data_wrapper", "pg_foreign_data_wrapper", "fdwowner", "fdwacl"},
    {"pg_foreign_server", "pg_foreign_server", "srvowner", "srvacl"},
    {"pg_largeobject", "pg_largeobject_metadata", "lomowner", "lomacl"},
    {"pg_database", "pg_database", "datdba", "datacl"},
    {"pg_tablespace", "pg_tablespace", "spcowner", "spcacl"},
    {"pg_default_acl", "pg_default_acl", "defaclrole", "defaclacl"},
};

constexpr const char* kOfNone =
    "      SELECT NULL::oid AS owner, NULL::aclitem[] AS acl, NULL::aclitem[] AS whole WHERE false";
constexpr const char* kOfAnObject = R"(
      UNION ALL SELECT {owner}, {acl}, NULL FROM {rows} WHERE s.classid = '{catalog}'::regclass AND oid = s.objid)";
// A table's columns have lists of their own.
constexpr const char* kOfATable = R"(
      UNION ALL SELECT c.relowner, coalesce(a.attacl, c.relacl), a.attacl || c.relacl
      FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = nullif(s.objsubid, 0)
      WHERE s.classid = 'pg_class'::regclass AND c.oid = s.objid)";

constexpr const char* kSameTable =
    R"(FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner,
  pg_roles me, pg_database d
WHERE c.oid = {0}::oid AND c.relkind = 'r' AND n.nspname = {1} AND c.relname = {2} AND o.rolname = {3}
  AND me.rolname = session_user AND d.datname = current_database())";

std::string list_of_rights(const Granting& granting) {
  if (std::string_view(granting.catalog) == "pg_class") return kOfATable;
  return fmt::format(kOfAnObject, fmt::arg("owner", granting.owner), fmt::arg("acl", granting.acl),
                     fmt::arg("rows", granting.rows), fmt::arg("catalog", granting.catalog));
}

template <typename Condition>
std::string more_rights_where(const Condition& is_looked_into) {
  std::string lists = kOfNone;
  for (const Granting& granting : kGranting)
    if (is_looked_into(granting.catalog)) lists += list_of_rights(granting);
  return sql::fill<sql::more_rights>(sql::arg<"set_role">(kSetRole),
                                     sql::arg<"lists_of_rights">(lists));
}

}  // namespace

std::string more_rights() {
  return more_rights_where([](const char*) { return true; });
}

std::string more_rights(const std::vector<std::string>& granted_catalogs) {
  return more_rights_where([&](const char* catalog) {
    return std::find(granted_catalogs.begin(), granted_catalogs.end(), catalog) !=
           granted_catalogs.end();
  });
}

std::string same_table(Oid oid, const std::string& schema, const std::string& table,
                       const std::string& owner) {
  return fmt::format(kSameTable, oid, schema, table, owner);
}

const char* const kGrantedCatalogs = R"(
SELECT DISTINCT s.classid::regclass AS name FROM pg_shdepend s
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = to_regrole(quote_ident(session_user)) AND s.deptype = 'a'
  AND s.dbid IN (0::oid, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
)";

}  // namespace django_session::sessions
