// Two questions to the server: who has the table's lock, and who sets a time limit.
#include "cleanup/failure.hpp"

#include <fmt/format.h>

#include "cleanup/bystanders.hpp"
#include "core/sql_name.hpp"

namespace django_session::sessions {
namespace {

// {} ms. What the session had before our own limits, if it is no longer than that.
constexpr const char* kForeignLimit = R"(
SELECT session_user AS role, reset_val AS ms FROM pg_settings
WHERE name = 'statement_timeout' AND reset_val::int8 BETWEEN 1 AND {};
)";

// The server's own words, which name the file, may be a function's, and aren't repeated.
constexpr const char* kMissingFile =
    "; where this is the server's error, a file of the table or of an index is missing: is its "
    "disk there? VACUUM in psql names the file";

constexpr const char* kDamage =
    "; the table, its TOAST table or an index is damaged: man 7 django_session, section \"The "
    "cleanup "
    "failed\"";

/// The first statements of a transaction come before its own limits, and behind a pooler some have
/// none; then a limit of the role or of the database ends them. Empty where it wasn't that.
std::string whose_limit(Run& run) {
  constexpr int kTries = 5;  // the limit ends this question, too
  constexpr int kShort = 1000, kAny = 2147483647;
  for (int i = 0; i < kTries; ++i) {
    try {
      const int most = run.connection().is_pooled(run.soon()) ? kAny : kShort;
      const pg::Rows rows = run.ask(fmt::format(kForeignLimit, most));
      if (rows.empty()) return "";
      return fmt::format(
          "; role {0} has a statement_timeout of {1} ms here, which is too short: ALTER ROLE {0} "
          "SET statement_timeout = 0",
          sql_identifier(rows.front().text("role")), rows.front().text("ms"));
    } catch (const pg::Error& error) {
      if (!error.statement_timed_out()) return "";
    }
  }
  return "; does its role or the database have a statement_timeout? It would be too short";
}

/// The lock may already have been in the way when the table was looked up: then it has no OID yet.
std::string lockers(Run& run, const TableName& table) try {
  if (run.observer().stop_requested()) return "the holder was not looked up";
  if (run.target().oid) return lock_holders(run);
  return lock_holders(run, fmt::format("ANY (SELECT c.oid FROM pg_class c WHERE c.relname = {})",
                                       run.connection().literal(table.table)));
} catch (const pg::Error&) {
  return "the holder is unknown";
}

std::string what_was_ended(Run& run) {
  const auto pid = run.end_what_was_left_behind();
  if (!pid) return "";
  return fmt::format(
      "; its server process ({}) was still at work, and was terminated: code of the table's owner "
      "can keep one from ending by itself",
      *pid);
}

}  // namespace

Failure explain(Run& run, const TableName& table, const pg::Error& error) {
  if (error.lock_not_available()) return {true, "the table is locked: " + lockers(run, table)};
  if (error.kind() == pg::Error::Kind::timeout) return {false, error.what() + what_was_ended(run)};
  if (error.file_missing()) return {false, error.what() + std::string(kMissingFile)};
  if (error.corrupted()) return {false, error.what() + std::string(kDamage)};
  const bool is_limit = error.statement_timed_out() && run.is_connected();
  return {false, error.what() + (is_limit ? whose_limit(run) : "")};
}

}  // namespace django_session::sessions
