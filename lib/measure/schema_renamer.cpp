// To rename a schema takes the rights of its owner, and CREATE on the database: that isn't looked
// at, it is too easily granted.
#include "measure/schema_renamer.hpp"

#include <fmt/format.h>

#include "measure/more_rights.hpp"

namespace django_session::sessions {
namespace {

// {0} the runner, {1} kSetRole. The owner, and each member of his; the database's owner is a member
// of pg_database_owner, as which nobody can act but he.
constexpr const char* kRenamer = R"((
  SELECT min(x.rolname::text) FROM pg_roles x
  WHERE NOT x.rolsuper AND x.rolname <> 'pg_database_owner' AND pg_has_role(x.oid, n.nspowner, 'MEMBER')
    AND NOT EXISTS (SELECT FROM pg_roles able
                    WHERE (able.rolsuper OR able.oid = {0}.oid) AND pg_has_role(x.oid, able.oid, {1}))))";

}  // namespace

std::string schema_renamer(const std::string& runner) {
  return fmt::format(kRenamer, runner, kSetRole);
}

}  // namespace django_session::sessions
