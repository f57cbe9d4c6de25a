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

// What a constraint, a type or a function refuses would be in the server's log with its values, as
// the error's detail or even in its message: a name that doesn't exist may be a value that a function
// of the server's was given. One that is caught isn't logged. Said again is only what names what
// exists, and only if it is the server's: of the functions, the innermost is ours. {0} the block, {1}
// what our function is called in a context, {2} what is caught.
constexpr const char* kBody = R"(
DECLARE
  context text;
  innermost text;
BEGIN
{0}
EXCEPTION WHEN {2} THEN
  GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
  innermost := substring(context from E'PL/[^\\n]*');
  RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = CASE
    WHEN (strpos(innermost, '{1}') > 0) IS NOT TRUE
      THEN 'a constraint, a type or a function refuses a session, SQLSTATE ' || SQLSTATE
        || coalesce(', in ' || innermost, '')
    WHEN SQLSTATE ~ '^23' OR SQLSTATE IN ('42501', '42P07', '42710', '42809', '42P16', '42P17') THEN SQLERRM
    ELSE 'a constraint, a type or a function refuses a session, SQLSTATE ' || SQLSTATE END;
END)";

constexpr const char* kQuotesValues = "integrity_constraint_violation OR data_exception";
constexpr const char* kQuotesValuesOfSessions =
    "integrity_constraint_violation OR data_exception OR syntax_error_or_access_rule_violation "
    "OR invalid_catalog_name OR invalid_schema_name OR undefined_file OR feature_not_supported "
    "OR invalid_cursor_name OR invalid_sql_statement_name OR program_limit_exceeded";

constexpr const char* kRun = R"(
CREATE MATERIALIZED VIEW {0} AS SELECT {0}() AS done;
DROP MATERIALIZED VIEW {0};
DROP FUNCTION {0}();
)";

}  // namespace

OwnersWork as_owner(const std::string& schema, const std::string& name, const std::string& block,
                    WorksOn on) {
  const std::string full_name = schema + "." + name;
  const char* quoting = on == WorksOn::sessions ? kQuotesValuesOfSessions : kQuotesValues;
  const std::string body =
      fmt::format(kBody, block + "\nRETURN true;", fmt::format(".{}()", name), quoting);
  return {kSettings + fmt::format(kDefine, full_name, sql_code(body)),
          fmt::format(kRun, full_name)};
}

std::string as_ourselves(const std::string& block) {
  return fmt::format("DO {};\n", sql_code(fmt::format(kBody, block, " inline_code_block ",
                                                      kQuotesValuesOfSessions)));
}

pg::Row report_of(pg::Connection& connection) { return read_report(connection.take_infos()); }

pg::Row read_report(const std::vector<std::string>& infos) {
  pg::Row report;
  for (const std::string& line : infos) {
    std::istringstream words(line.substr(pg::kReportMark.size()));
    for (std::string word; words >> word;)
      if (const auto equals = word.find('='); equals != std::string::npos)
        report.set(word.substr(0, equals), word.substr(equals + 1));
  }
  return report;
}

}  // namespace django_session::sessions
