// Asks the queries in sql/, which have a line or two for each refusal.
#include "cleanup/refusals.hpp"

#include <fmt/format.h>

#include <string>

#include "cleanup/sql_files.hpp"
#include "cleanup/table_definition.hpp"
#include "core/sql_text.hpp"
#include "measure/more_rights.hpp"
#include "measure/schema_renamer.hpp"

namespace django_session::sessions {
namespace {

std::string this_table(Oid oid) { return sql::fill<sql::this_table>(sql::arg<"oid">(oid)); }

std::vector<Method> methods_of(const std::string& list) {
  std::vector<Method> methods;
  for (const Method method : {Method::swap, Method::remove, Method::full})
    if (list.find(method_name(method)) != std::string::npos) methods.push_back(method);
  return methods;
}

}  // namespace

std::vector<Refusal> general_refusals(Run& run, const DeleteAccess& access) {
  std::vector<Refusal> refusals;
  const std::string query =
      sql::fill<sql::general_refusals>(sql::arg<"this_table">(this_table(run.target().oid)),
                                       sql::arg<"schema_renamer">(schema_renamer("o")));
  for (const pg::Row& row : run.ask(query))
    for (const Method method : methods_of(row.text("methods")))
      refusals.push_back({method, row.text("object"), row.text("reason")});
  for (const auto& obstacle : access.obstacles)
    for (const Method method : {Method::remove, Method::full})
      refusals.push_back({method, obstacle.object, obstacle.reason});
  return refusals;
}

std::vector<Refusal> swap_refusals(Run& run) {
  const Oid oid = run.target().oid;
  // The triggers of a swap that was interrupted are not the user's; in a database that was restored
  // from a dump, their names have the OID that the table had before.
  const std::string own_function = fmt::format(
      "coalesce((SELECT min(g.tgfoid::oid) FROM pg_trigger g "
      "WHERE g.tgrelid = {0} AND g.tgname ~ '^djs_[1-9][0-9]*_(changed|deleted|truncated)$'), 0)",
      oid);
  const std::string query = sql::fill<sql::swap_refusals>(
      sql::arg<"this_table">(this_table(oid)), sql::arg<"oid">(oid), sql::arg<"set_role">(kSetRole),
      sql::arg<"attachments">(attachments_query(oid.text(), own_function)));
  std::vector<Refusal> refusals;
  for (const pg::Row& row : run.ask(query))
    refusals.push_back({Method::swap, row.text("object"), row.text("reason")});
  return refusals;
}

}  // namespace django_session::sessions
