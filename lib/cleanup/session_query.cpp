// One transaction that is always rolled back; the answer comes by RAISE INFO from the jail, and as
// a row else.
#include "cleanup/session_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "cleanup/as_owner.hpp"
#include "cleanup/patience.hpp"
#include "measure/more_rights.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

// {0} the owner's name as a string, {1} more_rights(), {2} kSetRole.
constexpr const char* kWho = R"(
SELECT {1} IS NULL AS is_harmless,
  NOT pg_is_in_recovery() AND pg_has_role(me.oid, o.oid, {2}) AS can_be_owner
FROM pg_roles me, pg_roles o, pg_database d
WHERE me.rolname = session_user AND o.rolname = {0} AND d.datname = current_database();
)";

// What who_may_read() said was true then. The table's lock is taken as soon as this is parsed, so
// from this look on it has no other owner; nothing is planned for it, since the planner has dropped
// it by then. The division by zero ends it. {0} the table, {1} same_table(), {2} what else must be
// true.
constexpr const char* kStillTrue = R"(
SELECT 1 / count(*) AS is_still_true, CASE WHEN false THEN (SELECT expire_date FROM ONLY {0} LIMIT 1) END AS hold
{1}{2};
)";

// {0} the SELECT, {1} "a=% b=%", {2} "item.a, item.b".
constexpr const char* kBlock = R"(
<<djs>>
DECLARE
  item record;
BEGIN
  SELECT q.* INTO STRICT item FROM ({0}) q;
  RAISE INFO 'djs: {1}', {2};
END;)";

std::string still_true(Run& run, ReadingAs who) {
  const CleanupTarget& target = run.target();
  const pg::Connection& c = run.connection();
  return fmt::format(kStillTrue, target.sql_name,
                     same_table(target.oid, c.literal(target.schema), c.literal(target.table),
                                c.literal(target.owner)),
                     who == ReadingAs::ourselves ? " AND " + more_rights() + " IS NULL" : "");
}

std::string in_jail(Run& run, const std::vector<std::string>& columns, const std::string& select) {
  std::string format, values;
  for (const std::string& column : columns) {
    format += (format.empty() ? "" : " ") + column + "=%";
    values += (values.empty() ? "item." : ", item.") + column;
  }
  const pg::Connection& connection = run.connection();
  const OwnersWork work =
      as_owner(connection.identifier(run.target().schema), fmt::format("djs_{}_q", run.id()),
               fmt::format(kBlock, select, format, values));
  return fmt::format("SET LOCAL ROLE {};\n{}{}{}", connection.identifier(run.target().owner),
                     still_true(run, ReadingAs::owner), work.define, work.run);
}

/// What the owner's code may have had a say in is believed only if it is amounts.
bool are_amounts(const pg::Row& row, const std::vector<std::string>& columns) try {
  return std::all_of(columns.begin(), columns.end(), [&](const std::string& column) {
    return row.number(column, pg::kAmount).has_value();
  });
} catch (const std::logic_error&) {
  return false;
} catch (const std::runtime_error&) {
  return false;
}

}  // namespace

ReadingAs who_may_read(Run& run) {
  const pg::Rows rows = run.ask(
      fmt::format(kWho, run.connection().literal(run.target().owner), more_rights(), kSetRole));
  if (rows.empty()) return ReadingAs::nobody;
  const pg::Row& row = rows.front();
  if (row.flag("is_harmless")) return ReadingAs::ourselves;
  return row.flag("can_be_owner") ? ReadingAs::owner : ReadingAs::nobody;
}

std::optional<pg::Row> ask_sessions(Run& run, ReadingAs who, const SessionQuestion& question,
                                    pg::Deadline limit, std::string* refusal) {
  if (who == ReadingAs::nobody) return std::nullopt;
  const bool jailed = who == ReadingAs::owner;
  const auto time = std::max(limit.remaining(), std::chrono::milliseconds(1));
  const Transaction transaction{.access = jailed ? Access::read_write : Access::read_only,
                                .limits = {patience::kCatalogLock, time},
                                .plans = Transaction::Plans::by_index,
                                .end = Transaction::End::roll_back};
  const std::string work = jailed ? in_jail(run, question.columns, question.select)
                                  : still_true(run, who) + question.select + ";";
  const pg::Answer answer = run.connection().try_run(
      transaction.sql(work), pg::Deadline::after(time + patience::kAnswersWay));
  if (answer.refusal && refusal != nullptr) *refusal = answer.refusal->what();
  if (answer.refusal || answer.rows.empty()) return std::nullopt;
  const pg::Row row = jailed ? report_of(run.connection()) : answer.rows.back();
  return are_amounts(row, question.columns) ? std::optional(row) : std::nullopt;
}

}  // namespace django_session::sessions
