// Four queries, see sql/, and what their answers mean for people.
#include "measure/leftovers.hpp"

#include <fmt/format.h>

#include "core/quantity.hpp"
#include "core/sql_name.hpp"
#include "core/sql_text.hpp"
#include "measure/sql_files.hpp"

namespace django_session::sessions {

std::string is_cleanup_lock(std::string_view lock, std::string_view oid) {
  return fmt::format(
      "{0}.locktype = 'advisory' AND {0}.granted AND {0}.objsubid = 2 AND {0}.classid = {1} "
      "AND {0}.objid = {2} AND {0}.database = (SELECT b.oid FROM pg_database b "
      "WHERE b.datname = current_database())",
      lock, kCleanupLock, oid);
}

std::string left_behind_query(Oid oid) { return sql::fill<sql::left_behind>(sql::arg<"oid">(oid)); }

std::string taken_names_query(Oid oid) { return sql::fill<sql::taken_names>(sql::arg<"oid">(oid)); }

std::string leftovers_query(Oid oid) { return sql::fill<sql::leftovers>(sql::arg<"oid">(oid)); }

Leftovers read_leftovers(const pg::Row& row) {
  Leftovers leftovers;
  leftovers.objects = row.lines("objects");
  leftovers.state = row.flag("state");
  leftovers.logging = row.flag("logging");
  leftovers.log_bytes = row.number("log_bytes", pg::kAmount).value_or(0);
  leftovers.bytes = row.number("bytes", pg::kAmount).value_or(0);
  leftovers.age = row.number("age");
  leftovers.keep = row.number("keep");
  leftovers.orphans = row.oids("orphans");
  return leftovers;
}

std::string what_stays_query(Oid oid) { return sql::fill<sql::what_stays>(sql::arg<"oid">(oid)); }

std::string describe_what_stays(const pg::Row& row) {
  const double bytes = row.number("bytes").value_or(0);
  const std::string object =
      row.text("object") +
      (bytes > 0 ? fmt::format(" ({})", format_quantity(bytes, Unit::bytes)) : "");
  if (!row.text("keepers").empty())
    return fmt::format(
        "{} can't be dropped, since something depends on it: {}; {}, then run "
        "django_session_cleanup --abort",
        object, with_printable_names(row.text("keepers")),
        with_printable_names(row.text("remedies")));
  if (!row.text("remedies").empty())
    return fmt::format("{} was part of a swap, and renamed by someone: {}, if nobody needs it",
                       object, with_printable_names(row.text("remedies")));
  return row.text("object") + " was kept by an earlier swap; run django_session_cleanup --abort";
}

std::string describe_leftovers(const Leftovers& leftovers, std::string_view whose) {
  if (!leftovers.any()) return "";
  std::string text = fmt::format("{}: {}", whose, fmt::join(leftovers.objects, ", "));
  text += fmt::format("; {}", format_quantity(leftovers.bytes, Unit::bytes));
  if (leftovers.age) text += ", started " + format_quantity(*leftovers.age, Unit::seconds) + " ago";
  return text;
}

}  // namespace django_session::sessions
