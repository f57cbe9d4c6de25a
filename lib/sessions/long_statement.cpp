// Waiting in slices, and the settings that only a direct connection can have.
#include "sessions/long_statement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice{100};
constexpr milliseconds kLongest{24 * 3600 * 1000};  // for a statement of a run without an end
constexpr milliseconds kOurselvesFirst{5000};       // before the server's own limit ends it

// Of the session: these statements can't be in a transaction, so SET LOCAL can't reach them.
// statement_timeout ends what we can't cancel any more because we were killed.
constexpr const char* kSettings = R"(
SET search_path = pg_catalog, pg_temp;
SET lock_timeout = {0};
SET statement_timeout = {1};
SET vacuum_cost_delay = 2;
SET vacuum_cost_limit = 2000;
)";

void apply_settings(pg::Connection& connection, milliseconds lock_timeout,
                    const CleanupOptions& options, pg::Deadline run_end) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  if (is_pooled(connection, deadline)) return;
  const auto longest = std::min(run_end.remaining(), kLongest) + kOurselvesFirst;
  connection.send(fmt::format(kSettings, lock_timeout.count(), longest.count()), deadline);
  while (connection.next_rows(deadline)) continue;
}

/// Throws pg::Error if the server hangs; asked every `answer_timeout`.
void expect_answers(pg::Connection& connection, const CleanupOptions& options,
                    pg::Deadline& next_question) {
  if (!next_question.passed()) return;
  if (!connection.server_answers(pg::Deadline::after(options.answer_timeout))) {
    connection.close();
    throw pg::Error(pg::Error::Kind::timeout, "the server does not answer any more");
  }
  next_question = pg::Deadline::after(options.answer_timeout);
}

/// Whether the cancel request or the statement's end came first makes no difference here.
void cancel(pg::Connection& connection, const CleanupOptions& options) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  connection.cancel(deadline);
  connection.finish(deadline);
}

}  // namespace

bool is_pooled(pg::Connection& connection, pg::Deadline deadline) {
  connection.send("SELECT pg_catalog.pg_backend_pid() AS pid", deadline);
  const pg::Rows rows = connection.next_rows(deadline).value_or(pg::Rows());
  connection.finish(deadline);
  return rows.empty() || rows.front().text("pid") != std::to_string(connection.backend_pid());
}

pg::Rows run_long(pg::Connection& connection, const std::string& statement,
                  milliseconds lock_timeout, const CleanupOptions& options, pg::Deadline run_end,
                  CleanupObserver& observer) {
  stop_if_wanted(observer, run_end);
  apply_settings(connection, lock_timeout, options, run_end);
  connection.send(statement, pg::Deadline::after(options.answer_timeout));
  const auto give_up = pg::Deadline::after(kLongest);
  auto next_question = pg::Deadline::after(options.answer_timeout);
  while (!connection.answered_by(pg::Deadline::after(kSlice))) {
    try {
      stop_if_wanted(observer, run_end);
      if (give_up.passed()) throw Stopped("no answer within a day");
      expect_answers(connection, options, next_question);
    } catch (const Stopped&) {
      cancel(connection, options);
      throw;
    }
  }
  pg::Rows all;
  while (auto rows = connection.next_rows(pg::Deadline::after(options.answer_timeout)))
    std::move(rows->begin(), rows->end(), std::back_inserter(all));
  return all;
}

}  // namespace django_session::sessions
