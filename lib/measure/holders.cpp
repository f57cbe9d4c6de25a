// One function for each kind of holder, and the questions for those that have a snapshot.
#include "measure/holders.hpp"

#include <fmt/format.h>

#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "core/sql_name.hpp"
#include "core/sql_text.hpp"
#include "measure/sql_files.hpp"

namespace django_session::sessions {
namespace {

// Where the age in time is hidden, or isn't known (a slot's, a replica's), the transactions since
// then tell. A replica that works has a slot whose snapshot is young.
constexpr const char* kLongThere =
    "holder.seconds >= 60 OR holder.kind = 'prepared'\n"
    "  OR holder.seconds IS NULL AND holder.age >= 1000";
constexpr const char* kMarkOfNow = "1e30";  // beyond all transactions

/// Autovacuum has no role.
std::string describe_backend(const pg::Row& row) {
  if (row.text("role").empty()) return fmt::format("pid {} (autovacuum)", row.text("name"));
  std::string text = fmt::format("pid {} of role {}", row.text("name"), row.text("role"));
  if (!row.text("application").empty()) text += fmt::format(" ({})", row.text("application"));
  const auto seconds = row.number("seconds");
  return seconds ? text + ", in a transaction for " + format_quantity(*seconds, Unit::seconds)
                 : text;
}

std::string describe_prepared(const pg::Row& row) {
  const auto seconds = row.number("seconds");
  return fmt::format("prepared transaction \"{}\" of role {}", row.text("name"), row.text("role")) +
         (seconds ? ", there for " + format_quantity(*seconds, Unit::seconds) : "");
}

std::string describe_holder(const pg::Row& row) {
  const std::string kind = row.text("kind");
  if (kind == "slot") return fmt::format("replication slot \"{}\"", row.text("name"));
  if (kind == "prepared") return describe_prepared(row);
  if (kind == "walsender")
    return fmt::format("replica \"{}\" (hot_standby_feedback)", row.text("application"));
  return describe_backend(row);
}

/// None for a replica, nor for its slot: it would come back, or would have to be built again.
std::string statement_that_ends(const pg::Row& row) {
  const std::string kind = row.text("kind"), name = row.text("name");
  if (kind == "backend") return fmt::format("SELECT pg_catalog.pg_terminate_backend({})", name);
  if (kind == "prepared") return "ROLLBACK PREPARED " + printable_string(name);
  return "";
}

}  // namespace

Holder read_holder(const pg::Row& row) {
  return {without_controls(describe_holder(row), '?'), statement_that_ends(row)};
}

std::string snapshot_holders_query(const std::string& mark, const char* condition) {
  return sql::fill<sql::snapshot_holders>(sql::arg<"mark">(mark), sql::arg<"condition">(condition));
}

std::string dead_row_holders_query() { return snapshot_holders_query(kMarkOfNow, kLongThere); }

}  // namespace django_session::sessions
