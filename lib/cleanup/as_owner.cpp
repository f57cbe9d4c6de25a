// A function, a materialized view that calls it, and what it says by RAISE INFO. What it says is
// not read from the view: the owner's code ran in our transaction, and may have put an index with a
// function of his on it.
#include "cleanup/as_owner.hpp"

#include <fmt/format.h>

#include <sstream>

#include "core/sql_name.hpp"
#include "pg/server_message.hpp"

namespace django_session::sessions {
namespace {

// As on a server where nobody has set anything else: the owner may not be allowed to use a
// tablespace that is another session's default.
constexpr const char* kSettings = R"(
SET LOCAL check_function_bodies = on;
SET LOCAL default_tablespace = '';
SET LOCAL default_table_access_method = 'heap';
)";

// {0} the name with its schema, {1} the body as a string: there are names in it that the owner has
// chosen, maybe a moment ago, and whatever ended the string would run outside of the jail.
constexpr const char* kDefine = R"(
CREATE FUNCTION {0}() RETURNS pg_catalog.bool LANGUAGE plpgsql VOLATILE AS {1};
)";

// What a constraint or a type refuses would be in the server's log with its values, as the error's
// detail or even in its message. One that is caught isn't logged. Only what names a constraint is
// said again, and only if it is the server's: of the functions, the innermost is ours.
constexpr const char* kBody = R"(
DECLARE
  context text;
BEGIN
{}
RETURN true;
EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
  GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
  RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = CASE
    WHEN SQLSTATE ~ '^23' AND substring(context from 'PL/[^\n]*') ~ 'djs_' THEN SQLERRM
    ELSE 'a constraint, a type or a function refuses a value of a session, SQLSTATE ' || SQLSTATE END;
END)";

constexpr const char* kRun = R"(
CREATE MATERIALIZED VIEW {0} AS SELECT {0}() AS done;
DROP MATERIALIZED VIEW {0};
DROP FUNCTION {0}();
)";

}  // namespace

OwnersWork as_owner(const std::string& schema, const std::string& name, const std::string& block) {
  const std::string full_name = schema + "." + name;
  return {kSettings + fmt::format(kDefine, full_name, sql_code(fmt::format(kBody, block))),
          fmt::format(kRun, full_name)};
}

pg::Row report_of(pg::Connection& connection) {
  pg::Row report;
  for (const std::string& line : connection.take_infos()) {
    std::istringstream words(line.substr(pg::kReportMark.size()));
    for (std::string word; words >> word;)
      if (const auto equals = word.find('='); equals != std::string::npos)
        report.set(word.substr(0, equals), word.substr(equals + 1));
  }
  return report;
}

}  // namespace django_session::sessions
