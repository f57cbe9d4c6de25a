// The verbs that send a swap's messages, each with its limits.
#include "cleanup/swap_run.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cleanup/as_owner.hpp"
#include "cleanup/long_statement.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/swap_error.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

// While another session waits for a lock that we hold, and we for one of its, it is the one that is
// cancelled if its deadlock_timeout is over first.
constexpr const char* kDeadlockTimeout = R"(
SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 AS ms;
)";

}  // namespace

SwapNames swap_names(Run& run) {
  const CleanupTarget& target = run.target();
  const pg::Connection& connection = run.connection();
  return {target.oid, connection.identifier(target.schema), target.sql_name,
          connection.identifier(target.owner), run.id()};
}

SwapRun::SwapRun(Run& its_run, Oid& shadow_oid)
    : run(its_run),
      names(swap_names(its_run)),
      shadow(shadow_oid),
      own_lock_(patience::kHelpersLock),
      lock_timeout_(its_run.options().lock_timeout) {}

void SwapRun::limit_waits() {
  const pg::Row row = run.ask(kDeadlockTimeout).front();
  const milliseconds most(std::max(1LL, static_cast<long long>(row.number("ms").value() / 2)));
  own_lock_ = std::min<milliseconds>(patience::kHelpersLock, most);
  if (lock_timeout_ <= most) return;
  lock_timeout_ = most;
  run.note(
      fmt::format("each lock is tried for {} ms, not {}: half of the server's deadlock_timeout, so "
                  "that no other session is cancelled for a deadlock",
                  most.count(), run.options().lock_timeout.count()));
}

TransactionLimits SwapRun::quick() const {
  return limits(std::min(own_lock_, run.options().answer_timeout / 4));
}

TransactionLimits SwapRun::on_table() const { return limits(lock_timeout_); }

/// The server ends a statement before we give up the connection.
TransactionLimits SwapRun::limits(milliseconds lock) const {
  return {lock, lock + run.options().answer_timeout / 2};
}

TransactionLimits SwapRun::unhurried() const {
  const auto end = std::min<milliseconds>(run.end().remaining(), patience::kLongestStatement);
  return {own_lock_, end + patience::kOurselvesFirst};
}

pg::Rows SwapRun::send(const std::string& message, TransactionLimits limits) {
  return run.send(message, pg::Deadline::after(limits.lock + run.options().answer_timeout));
}

pg::Row SwapRun::report(const std::string& message, TransactionLimits limits) {
  send(message, limits);
  return report_of(run.connection());
}

pg::Rows SwapRun::send_long(const std::string& message, pg::Deadline end) {
  return run_long(run.connection(), message, {own_lock_, run.options().answer_timeout, end},
                  {[this, end] { run.check(end); }, [this](double share) { show_share(share); }});
}

/// Other statements are only a part of their phase. Where several come in a message, each begins
/// below the one before it; one that was over between two looks is not counted.
void SwapRun::show_share(double share) {
  if (statements_ == 0) return;
  if (share < share_ && statement_ + 1 < statements_) ++statement_;
  share_ = share;
  run.show_share((statement_ + share) / statements_);
}

pg::Row SwapRun::report_long(const std::string& message) {
  send_long(message);
  return report_of(run.connection());
}

void SwapRun::timed(const std::string& message) {
  double asked = 0, ended = 0;
  for (const pg::Row& row : send(message, on_table())) {
    if (row.has("asked")) asked = row.number("asked", pg::kMoment).value_or(0);
    if (row.has("ended")) ended = row.number("ended", pg::kMoment).value_or(0);
  }
  run.had_locked_for(milliseconds(static_cast<long long>((ended - asked) * 1000 + 0.5)));
}

/// The session that has the state's row locked may be the one waited for.
void SwapRun::renew_lease() {
  if (!ours || Clock::now() - renewed_ < patience::kBetweenRenewals) return;
  renewed_ = Clock::now();
  try {
    send(renew_sql(names, quick()), quick());
  } catch (const pg::Error& error) {
    if (!is_lock_trouble(error)) throw;
  }
}

/// With figures while sessions are copied: whatever comes then would stand at 100 %, though that is
/// half of the work.
void SwapRun::show(const std::string& doing) {
  doing_ = doing;
  statements_ = 0;
  times_.begin(doing, Clock::now());
  if (doing == facts_of(Phase::copying).name)
    run.show(CleanupProgress{doing, copied, rows_expected_, 0});
  else
    run.show(doing);
}

}  // namespace django_session::sessions
