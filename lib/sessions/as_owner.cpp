// A function, a materialized view that calls it, and what it says by RAISE INFO. What it says is
// not read from the view: the owner's code ran in our transaction, and may have put an index with a
// function of his on it.
#include "sessions/as_owner.hpp"

#include <fmt/format.h>

#include <sstream>

namespace django_session::sessions {
namespace {

// {0} the name with its schema, {1} the name, {2} the block. The tag is the name, so that no text in
// the block ends it.
constexpr const char* kDefine = R"(
CREATE FUNCTION {0}() RETURNS pg_catalog.bool LANGUAGE plpgsql VOLATILE AS ${1}$
BEGIN
{2}
RETURN true;
END ${1}$;
)";

constexpr const char* kRun = R"(
CREATE MATERIALIZED VIEW {0} AS SELECT {0}() AS done;
DROP MATERIALIZED VIEW {0};
DROP FUNCTION {0}();
)";

constexpr std::string_view kMark = "djs: ";

}  // namespace

OwnersWork as_owner(const std::string& schema, const std::string& name, const std::string& block) {
  const std::string full_name = schema + "." + name;
  return {fmt::format(kDefine, full_name, name, block), fmt::format(kRun, full_name)};
}

pg::Row report_of(pg::Connection& connection) {
  pg::Row report;
  for (const std::string& line : connection.take_infos()) {
    if (!line.starts_with(kMark)) continue;
    std::istringstream words(line.substr(kMark.size()));
    for (std::string word; words >> word;)
      if (const auto equals = word.find('='); equals != std::string::npos)
        report.set(word.substr(0, equals), word.substr(equals + 1));
  }
  return report;
}

}  // namespace django_session::sessions
