// What we may do, what the owner may do, and whether we have anything that he hasn't.
#include "cleanup/delete_access.hpp"

#include <fmt/format.h>

#include "cleanup/sql_files.hpp"
#include "core/printable.hpp"
#include "core/sql_text.hpp"
#include "measure/more_rights.hpp"

namespace django_session::sessions {
namespace {

// {0} the table's OID, {1} more_rights(). The owner may turn his function to SECURITY INVOKER at
// any moment, and what it leaves to be done at COMMIT runs as us in any case.
constexpr const char* kMoreThanTheOwner = R"(
SELECT {1} AS names
FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner, pg_roles me, pg_database d
WHERE c.oid = {0} AND me.rolname = session_user AND d.datname = current_database();
)";

// {0} the table's OID. Untrusted languages, and the extensions by which others reach beyond their
// transaction, may do what no ROLLBACK undoes.
constexpr const char* kTriggers = R"(
SELECT quote_ident(g.tgname) AS name, p.oid::regprocedure AS function,
  l.lanpltrusted AND NOT EXISTS (
    SELECT FROM pg_extension e WHERE e.extname IN ('dblink', 'http', 'pg_background')) AS is_contained
FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_language l ON l.oid = p.prolang
WHERE g.tgrelid = {0} AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 8 <> 0
  AND l.lanname NOT IN ('internal', 'c')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE E'search\\_path=%')
ORDER BY g.tgname;
)";

using Way = DeleteAccess::Way;

/// Why a role with more rights than the owner can't put them aside.
std::string no_jail(const pg::Row& row) {
  if (row.flag("owner_may_create") && row.flag("has_plpgsql")) return "";
  const std::string grant =
      row.flag("has_plpgsql")
          ? fmt::format("GRANT USAGE, CREATE ON SCHEMA {} TO {}", row.text("schema"),
                        row.text("owner"))
          : fmt::format("GRANT USAGE ON LANGUAGE plpgsql TO {}", row.text("owner"));
  return fmt::format(
      "has more rights than the table's owner, and the owner's triggers would run with them; run "
      "it as {}, or {}",
      row.text("owner"), grant);
}

std::string no_function(Run& run, const pg::Row& row) {
  if (row.text("function").empty())
    return fmt::format(
        "may not delete expired sessions; clean up as {}, or as the cleaning role that "
        "conf.d/roles.sql makes (psql -v cleaner=django_session_cleaner)",
        row.text("owner"));
  const pg::Rows more = run.ask(fmt::format(kMoreThanTheOwner, run.target().oid, more_rights()));
  if (more.empty() || more.front().text("names").empty()) return "";
  return fmt::format(
      "has rights that {0}, whose code deletes, lacks ({1}); let conf.d/roles.sql make a role just "
      "for the tables of {0}, or clean up as {0}",
      row.text("owner"), without_controls(more.front().text("names"), '?'));
}

/// What would run at the commit, when neither the jail nor the owner's function is there any more.
void refuse_deferred(const std::optional<std::string>& trigger, DeleteAccess& access) {
  if (trigger)
    access.obstacles.push_back(
        {"trigger " + *trigger,
         "is deferred: it would run with other rights than the owner's; clean up as " +
             access.owner});
}

void find_what_stops_the_jail(const pg::Row& row, DeleteAccess& access) {
  if (row.optional_text("event_triggers"))
    access.obstacles.push_back(
        {"event trigger " + row.text("event_triggers"),
         "would fire: as another role than the owner, each batch makes and drops a function; "
         "clean up as " +
             access.owner});
}

/// Why this role can't delete in that way; empty if it can.
std::string choose_way(Run& run, const pg::Row& row, DeleteAccess& access) {
  if (row.flag("is_owner")) {
    access.way = Way::own;
    access.in_a_block = row.flag("has_plpgsql");
    return "";
  }
  if (row.flag("may_become_owner")) {
    access.way = Way::as_owner;
    access.in_a_block = true;
    refuse_deferred(row.optional_text("deferred_trigger"), access);
    find_what_stops_the_jail(row, access);
    return no_jail(row);
  }
  access.way = Way::function;
  refuse_deferred(row.optional_text("trigger_with_our_rights"), access);
  access.function = row.text("function");
  access.function_oid = row.oid("function_oid");
  return no_function(run, row);
}

}  // namespace

std::string DeleteAccess::about_triggers() const {
  std::string text;
  for (const Trigger& trigger : triggers)
    text += fmt::format(
        "{0}trigger {1} calls {2}, which sets no search_path and so gets the cleanup's, "
        "pg_catalog: unless it names everything else with its schema, ALTER FUNCTION {2} SET "
        "search_path = ...",
        text.empty() ? "" : "; ", trigger.name, trigger.function);
  return without_controls(text, '?');
}

std::string DeleteAccess::why_it_failed(const pg::Error& error) const {
  const bool not_found = error.sqlstate().starts_with("42") && !error.insufficient_privilege();
  if (!not_found || triggers.empty()) return error.what();
  return fmt::format("{}; {}", error.what(), about_triggers());
}

DeleteAccess delete_access(Run& run) {
  const Oid oid = run.target().oid;
  const pg::Rows rows =
      run.ask(sql::fill<sql::delete_access>(sql::arg<"oid">(oid), sql::arg<"set_role">(kSetRole)));
  if (rows.empty()) throw pg::Error(pg::Error::Kind::statement, "the table is gone");
  const pg::Row& row = rows.front();
  DeleteAccess access;
  access.owner = row.text("owner");
  const std::string obstacle = choose_way(run, row, access);
  if (!obstacle.empty()) access.obstacles.push_back({"role " + row.text("role"), obstacle});
  if (row.optional_text("owner_lacks"))
    access.obstacles.push_back(
        {"role " + access.owner, "owns the table, but has no right to " + row.text("owner_lacks")});
  if (row.flag("rows_are_hidden"))
    access.obstacles.push_back({"row security", "hides rows even from the owner"});
  for (const pg::Row& trigger : run.ask(fmt::format(kTriggers, oid)))
    access.triggers.push_back(
        {trigger.text("name"), trigger.text("function"), trigger.flag("is_contained")});
  return access;
}

}  // namespace django_session::sessions
