// PREPARE and EXECUTE as SQL, since our messages have several statements.
#include "measure/prepared.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace django_session::sessions {
namespace {

// The texts change with the table, its statistics and its number of rows: seldom.
constexpr std::size_t kMost = 50;
constexpr int kMostAttempts = 200;  // some stay behind where a preparation failed

/// {0} pairs of name and time, {1} how many.
constexpr const char* kVerification = R"(
SELECT CASE WHEN count(*) = {1} THEN true ELSE (count(*) || ' of {1} statements are as prepared')::bool END AS is_prepared
FROM pg_prepared_statements WHERE (name, prepare_time) IN ({0});
)";

}  // namespace

void PreparedStatements::begin() {
  in_use_ = true;
  last_number_ = 0;
  statements_.clear();
}

std::string PreparedStatements::execute(const std::string& select) {
  if (!in_use_) return select;
  const auto found = statements_.find(select);
  if (found == statements_.end() && statements_.size() >= kMost) return select;
  Statement& statement = statements_[select];
  ++statement.asked;
  if (statement.time.empty()) return select;
  statement.is_executed = true;
  return fmt::format("EXECUTE {};\n", statement.name);
}

std::string PreparedStatements::preparation() {
  if (last_number_ >= kMostAttempts) end();
  std::string sql;
  for (auto& [select, statement] : statements_) {
    if (!in_use_ || statement.asked < 2 || !statement.time.empty()) continue;
    statement.name = fmt::format("djs_{}", ++last_number_);  // after a failure, the last is taken
    sql += fmt::format("PREPARE {} AS {}\n", statement.name, select);
  }
  return sql.empty()
             ? ""
             : "SET LOCAL timezone = 'UTC';\n" + sql + "SELECT statement_timestamp() AS time;\n";
}

void PreparedStatements::prepared(const pg::Row& row) {
  for (auto& [select, statement] : statements_)
    if (statement.time.empty() && !statement.name.empty()) statement.time = row.text("time");
}

std::string PreparedStatements::verification() {
  std::string pairs;
  int count = 0;
  for (auto& [select, statement] : statements_) {
    if (!std::exchange(statement.is_executed, false)) continue;
    pairs += fmt::format("{}('{}', '{}'::timestamptz)", count++ == 0 ? "" : ", ", statement.name,
                         statement.time);
  }
  verifies_ = count > 0;
  return count == 0 ? "" : fmt::format(kVerification, pairs, count);
}

bool PreparedStatements::give_up(const pg::Error& error) {
  constexpr std::string_view kNoSuchStatement = "26000", kDuplicate = "42P05", kOtherType = "0A000";
  const std::string& state = error.sqlstate();
  if (!in_use_ || (state != kNoSuchStatement && state != kDuplicate && state != kOtherType))
    return false;
  end();
  return true;
}

}  // namespace django_session::sessions
