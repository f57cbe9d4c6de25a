// One statement finds, deletes and counts: sql/batch.sql.
#include "cleanup/delete_sql.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cleanup/as_owner.hpp"
#include "cleanup/sql_files.hpp"
#include "core/sql_name.hpp"
#include "core/sql_text.hpp"

namespace django_session::sessions {
namespace {

// The table's lock comes in a statement of its own, so that a lock on the table and a lock on a row
// can be told apart when one of them isn't granted. From then on nobody gives the table another
// owner; nor had it got one before, or the division by zero ends it (is_of_another_table()).
constexpr const char* kLock = R"(
LOCK TABLE ONLY {table} IN ROW EXCLUSIVE MODE;
SELECT 1 / count(*) AS is_the_same FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.oid = {oid} AND c.oid = {table_literal}::regclass AND r.oid = to_regrole({owner_literal});
SELECT true AS table_is_locked, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal_before;
)";

constexpr const char* kFromOn =
    "s.expire_date >= {beginning}{but}\n  ORDER BY s.expire_date LIMIT {most}";
constexpr std::string_view kSkipLocked = R"(
  SELECT s.ctid AS address FROM ONLY {table} s
  WHERE s.ctid = ANY (ARRAY(SELECT seen.address FROM seen)) AND s.expire_date < {cutoff}
  FOR UPDATE SKIP LOCKED)";
constexpr const char* kAllFree = "SELECT seen.address FROM seen";
// Some are enough to name who it is.
constexpr std::string_view kLockers = R"(ARRAY(
    SELECT DISTINCT s.xmax::text FROM ONLY {table} s
    WHERE s.ctid = ANY (ARRAY(SELECT l.address FROM left_over l LIMIT 1000)) LIMIT 5))";
constexpr const char* kNobody = "ARRAY[]::text[]";

constexpr const char* kBlock = R"(
DECLARE
  item record;
BEGIN
  EXECUTE {} INTO item;
  RAISE INFO 'djs: is_ours=% seen=% free=% deleted=% moment=%', item.is_ours, item.seen, item.free,
    item.deleted, item.moment;
  RAISE INFO 'djs: left_over=% left_last=% lockers=% wal_after=%', item.left_over, item.left_last,
    item.lockers, item.wal_after;
END;)";

// It is called by its name, so it has to be the one that was looked at: in the place of one that is
// gone, any role with CREATE on the schema can put one that runs with our rights.
constexpr std::string_view kSameFunctions = R"(
SELECT {count} AS is_the_same
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
JOIN pg_class c ON c.relowner = p.proowner
WHERE c.oid = {oid} AND p.oid = {function_oid} AND p.prosecdef AND quote_ident(r.rolname) = {owner}
  AND quote_ident(n.nspname) || '.' || quote_ident(p.proname) = {function};
)";

constexpr const char* kCall = R"(
SELECT f.is_ours, f.is_locked, f.swap_lives, f.seen, f.free, f.deleted,
  coalesce(replace((f.moment::timestamptz AT TIME ZONE 'UTC')::text, ' ', '_'), '') AS moment, f.left_over::text AS left_over,
  f.left_last::text AS left_last, f.lockers::text AS lockers, 0 AS wal_before,
  f.wal_bytes AS wal_after
FROM {function}({oid}::regclass, {cutoff}, {beginning}, {most}, {passing_over}, {only}, {skip_locked}) f;
)";

/// In text, moments are UTC's, without a zone: what the session's zone makes of them can be beyond
/// what may be read again. (The zone itself stays: a trigger may ask for the time of day.)
std::string tid_array(const std::vector<std::string>& addresses) {
  std::string list;
  for (const std::string& address : addresses)
    list += (list.empty() ? "\"" : ",\"") + address + "\"";
  return "'{" + list + "}'::tid[]";
}

std::string which(Run& run, const BatchOrder& order) {
  if (!order.only.empty()) return "s.ctid = ANY (" + tid_array(order.only) + ")";
  const std::string but = order.passing_over.empty()
                              ? ""
                              : " AND s.ctid <> ALL (" + tid_array(order.passing_over) + ")";
  return fmt::format(kFromOn, fmt::arg("beginning", run.moment(order.beginning)),
                     fmt::arg("but", but), fmt::arg("most", order.most));
}

std::string statement(Run& run, const BatchOrder& order) {
  const CleanupTarget& target = run.target();
  const auto table = sql::arg<"table">(target.sql_name);
  const auto cutoff = sql::arg<"cutoff">(run.moment(order.cutoff));
  const std::string free = order.skip_locked ? sql::fill<kSkipLocked>(table, cutoff) : kAllFree;
  const std::string lockers = order.skip_locked ? sql::fill<kLockers>(table) : kNobody;
  const std::string is_ours =
      order.trial ? "true" : fmt::format("pg_try_advisory_xact_lock({})", cleanup_lock(target.oid));
  return sql::fill<sql::batch>(table, cutoff, sql::arg<"which">(which(run, order)),
                               sql::arg<"free">(free), sql::arg<"lockers">(lockers),
                               sql::arg<"is_ours">(is_ours));
}

std::string lock(const CleanupTarget& target, const DeleteAccess& access) {
  return fmt::format(kLock, fmt::arg("table", target.sql_name), fmt::arg("oid", target.oid),
                     fmt::arg("table_literal", sql_string(target.sql_name)),
                     fmt::arg("owner_literal", sql_string(access.owner)));
}

std::string same_functions(Run& run, const DeleteAccess& access, const char* count) {
  return sql::fill<kSameFunctions>(sql::arg<"count">(count), sql::arg<"oid">(run.target().oid),
                                   sql::arg<"function_oid">(access.function_oid),
                                   sql::arg<"owner">(sql_string(access.owner)),
                                   sql::arg<"function">(sql_string(access.function)));
}

std::string function_call(Run& run, const DeleteAccess& access, const BatchOrder& order) {
  // A division by zero as for kLock.
  return same_functions(run, access, "1 / count(*)") +
         fmt::format(
             kCall, fmt::arg("function", access.function), fmt::arg("oid", run.target().oid),
             fmt::arg("cutoff", run.moment(order.cutoff)),
             fmt::arg("beginning", run.moment(order.beginning)), fmt::arg("most", order.most),
             fmt::arg("passing_over", tid_array(order.passing_over)),
             fmt::arg("only", tid_array(order.only)), fmt::arg("skip_locked", order.skip_locked));
}

/// The addresses in a PostgreSQL array: {"(0,1)","(0,2)"}.
std::vector<std::string> addresses(const std::string& array) {
  std::vector<std::string> found;
  for (std::size_t begin = array.find('('); begin != std::string::npos;
       begin = array.find('(', begin + 1)) {
    const std::size_t end = array.find(')', begin);
    if (end == std::string::npos) break;
    const std::string address = array.substr(begin, end - begin + 1);
    if (address.find_first_not_of("(,)0123456789") == std::string::npos) found.push_back(address);
  }
  return found;
}

/// The numbers in a PostgreSQL array: {7,8}.
std::vector<std::string> numbers(const std::string& array) {
  std::vector<std::string> found(1);
  for (const char c : array) {
    if (c >= '0' && c <= '9')
      found.back() += c;
    else if (!found.back().empty())
      found.emplace_back();
  }
  if (found.back().empty()) found.pop_back();
  return found;
}

}  // namespace

std::string batch_sql(Run& run, const DeleteAccess& access, const BatchOrder& order,
                      TransactionLimits limits) {
  Transaction transaction{Access::read_write, limits, Transaction::Plans::by_index};
  transaction.quick_commit = true;
  if (order.trial) transaction.end = Transaction::End::roll_back;
  switch (access.way) {
    case DeleteAccess::Way::function:
      return transaction.sql(function_call(run, access, order));
    case DeleteAccess::Way::as_owner: {
      const std::string block = fmt::format(kBlock, sql_code(statement(run, order)));
      const std::string name = fmt::format("djs_{}_{}", run.id(), order.trial ? "trial" : "delete");
      const OwnersWork work =
          as_owner(run.connection().identifier(run.target().schema), name, block);
      return transaction.sql("SET LOCAL ROLE " + access.owner + ";\n" + work.define +
                             lock(run.target(), access) + work.run);
    }
    case DeleteAccess::Way::own:
      break;
  }
  const std::string batch = statement(run, order);
  return transaction.sql(
      lock(run.target(), access) +
      (access.in_a_block ? as_ourselves(fmt::format(kBlock, sql_code(batch))) : batch + ";\n"));
}

bool is_of_another_table(Run& run, const DeleteAccess& access, const pg::Answer& answer) {
  constexpr const char *kDivisionByZero = "22012", *kReplaced = "DJS03";  // by roles.sql's function
  const std::string& sqlstate = answer.refusal->sqlstate();
  const bool looked = std::any_of(answer.rows.begin(), answer.rows.end(),
                                  [](const pg::Row& row) { return row.has("is_the_same"); });
  if (sqlstate == kReplaced || (sqlstate == kDivisionByZero && !looked)) return true;
  // It went between the look and the call, or while it ran, which the server notices at its end.
  return access.way == DeleteAccess::Way::function &&
         run.ask(same_functions(run, access, "count(*)")).front().number("is_the_same") == 0.0;
}

pg::Row row_of_batch(Run& run, const DeleteAccess& access, const pg::Rows& rows) {
  if (access.in_a_block) return report_of(run.connection());
  return rows.empty() ? pg::Row() : rows.back();
}

BatchReport read_batch_report(const pg::Row& row) {
  const auto count = [&](const char* column) {
    const double number = row.number(column).value_or(0);
    return pg::kAmount.contain(number) ? number : 0;
  };
  BatchReport report;
  report.is_ours = row.flag("is_ours");
  report.is_locked = row.has("is_locked") && row.flag("is_locked");
  report.swap_lives = row.has("swap_lives") && row.flag("swap_lives");
  report.seen = count("seen");
  report.free = count("free");
  report.deleted = count("deleted");
  report.moment = row.text("moment");
  std::replace(report.moment.begin(), report.moment.end(), '_', ' ');
  report.left_over = addresses(row.text("left_over"));
  report.left_last = addresses(row.text("left_last"));
  report.lockers = numbers(row.text("lockers"));
  report.wal_bytes = count("wal_after");
  return report;
}

}  // namespace django_session::sessions
