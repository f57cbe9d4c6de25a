// Three queries, see sql/, and what their answers mean for people.
#include "measure/leftovers.hpp"

#include <fmt/format.h>

#include "core/quantity.hpp"
#include "core/sql_text.hpp"
#include "measure/sql_files.hpp"

namespace django_session::sessions {

std::string left_behind_query(const std::string& oid) {
  return sql::fill<sql::left_behind>(sql::arg<"oid">(oid));
}

std::string taken_names_query(const std::string& oid) {
  return sql::fill<sql::taken_names>(sql::arg<"oid">(oid));
}

std::string leftovers_query(const std::string& oid) {
  return sql::fill<sql::leftovers>(sql::arg<"oid">(oid));
}

Leftovers read_leftovers(const pg::Row& row) {
  Leftovers leftovers;
  leftovers.objects = row.lines("objects");
  leftovers.state = row.flag("state");
  leftovers.logging = row.flag("logging");
  leftovers.log_bytes = row.number("log_bytes").value_or(0);
  leftovers.bytes = row.number("bytes").value_or(0);
  leftovers.age = row.number("age");
  leftovers.keep = row.number("keep");
  leftovers.orphans = row.lines("orphans");
  leftovers.keepers = row.lines("keepers");
  leftovers.remedies = row.lines("remedies");
  return leftovers;
}

std::string why_it_stays(const Leftovers& leftovers) {
  if (leftovers.keepers.empty()) return "";
  return fmt::format(
      "the replaced table can't be dropped ({}): {} depends on it; {}, then run "
      "django_session_cleanup --abort",
      format_quantity(leftovers.bytes, Unit::bytes), fmt::join(leftovers.keepers, ", "),
      fmt::join(leftovers.remedies, "; "));
}

std::string describe_leftovers(const Leftovers& leftovers) {
  if (!leftovers.any()) return "";
  std::string text =
      fmt::format("a running or interrupted swap: {}", fmt::join(leftovers.objects, ", "));
  text += fmt::format("; {}", format_quantity(leftovers.bytes, Unit::bytes));
  if (leftovers.age) text += ", started " + format_quantity(*leftovers.age, Unit::seconds) + " ago";
  if (const std::string why = why_it_stays(leftovers); !why.empty()) text += "; " + why;
  return text;
}

}  // namespace django_session::sessions
