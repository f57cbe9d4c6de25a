// The verbs.
#include "cleanup/run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "cleanup/long_statement.hpp"
#include "cleanup/patience.hpp"
#include "measure/catalog_query.hpp"

namespace django_session::sessions {

using std::chrono::milliseconds;

namespace {

// A process id alone is soon another's: after a restart, or after a failover, where another server
// answers at the same address. (The system identifier tells no more: a standby that was promoted
// has its primary's.)
constexpr const char* kIdentity =
    "((pg_postmaster_start_time() AT TIME ZONE 'UTC')::text || ' ' || "
    "(a.backend_start AT TIME ZONE 'UTC')::text)";

// {} kIdentity.
constexpr const char* kOurBackend = R"(
SELECT {} AS identity FROM pg_stat_activity a WHERE a.pid = pg_backend_pid();
)";

// {0} a process id, {1} kIdentity, {2} what that was, as a literal.
constexpr const char* kEnd = R"(
SELECT pg_terminate_backend(a.pid) AS ended FROM pg_stat_activity a
WHERE a.pid = {0} AND {1} = {2} AND a.usename = session_user AND a.datname = current_database()
  AND a.state <> 'idle';
)";

}  // namespace

std::string new_run_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

Run::Run(const pg::Parameters& parameters, const CleanupOptions& options, CleanupObserver& observer)
    : parameters_(parameters),
      options_(options),
      observer_(observer),
      end_(pg::Deadline::after(options.max_duration.value_or(patience::kNoEnd))),
      connector_(parameters) {
  result_.method = options.method;
}

void Run::had_locked_for(milliseconds time) {
  result_.longest_lock = std::max(result_.longest_lock, time);
}

void Run::connect() {
  if (observer_.stop_requested()) throw Stopped("interrupted; run it again to continue");
  backend_ = {};
  take_back(connector_.connect(soon()));
}

void Run::take_back(std::optional<pg::Connection> connection) {
  connection_ = std::move(connection);
  if (!is_connected()) return;
  connection_->set_own_functions(fmt::format("djs_{}_", id_));
  const int pid = connection_->backend_pid();
  if (backend_.identity.empty() || backend_.pid != pid) backend_ = {pid, backend_identity()};
}

std::string Run::backend_identity() try {
  const pg::Rows rows = ask(fmt::format(kOurBackend, kIdentity));
  return rows.empty() ? "" : rows.front().text("identity");
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
  return "";
}

std::optional<int> Run::end_what_was_left_behind() try {
  if (backend_.identity.empty()) return std::nullopt;
  const auto end = pg::Deadline::after(patience::kForAnEnd);
  pg::Connection second = connector_.connect(end);
  if (second.is_pooled(end)) return std::nullopt;
  const std::string query =
      fmt::format(kEnd, backend_.pid, kIdentity, second.literal(backend_.identity));
  if (ask_catalog(second, query, end).empty()) return std::nullopt;
  return backend_.pid;
} catch (const pg::Error&) {  // a server that hangs as a whole
  return std::nullopt;
}

pg::Connection& Run::connection() {
  if (!connection_) throw pg::Error(pg::Error::Kind::connection, "there is no connection");
  return *connection_;
}

pg::Connection Run::lend_connection() {
  pg::Connection lent = std::move(connection());
  connection_.reset();
  return lent;
}

std::string Run::moment(const std::string& utc) {
  return fmt::format("({}::timestamp AT TIME ZONE 'UTC')", connection().literal(utc));
}

pg::Rows Run::ask(const std::string& query) { return ask_catalog(connection(), query, soon()); }

pg::Rows Run::send(const std::string& message, pg::Deadline deadline) {
  return connection().run(message, deadline);
}

pg::Rows Run::run_long(const std::string& message, milliseconds lock_timeout,
                       const std::string& phase) {
  const auto got_on = [&](double share) {
    if (!phase.empty() && phase != progress_.phase) progress_ = CleanupProgress{phase};
    show_share(share);
  };
  return sessions::run_long(connection(), message, {lock_timeout, options_.answer_timeout, end_},
                            {[this] { check(); }, got_on});
}

void Run::show(const CleanupProgress& progress) {
  progress_ = progress;
  progress_.done = work_.done(progress);
  observer_.on_progress(progress_);
}

/// A VACUUM turns to the TOAST table in the end, and would begin again.
void Run::show_share(double share) {
  CleanupProgress now = progress_;
  now.share = std::max(share, now.share.value_or(0));
  show(now);
}

void Run::check(pg::Deadline end) const {
  if (observer_.stop_requested()) throw Paused("interrupted; run it again to continue");
  if (end.passed()) throw Paused("max-duration reached; run it again to continue");
}

void Run::rest(milliseconds duration) const {
  const auto rested = pg::Deadline::after(duration);
  check();
  while (!rested.passed()) {
    std::this_thread::sleep_for(std::min(patience::kNoticesStop, rested.remaining()));
    check();
  }
}

void Run::note_warnings() {
  for (const std::string& warning : connection().take_warnings())
    note("the server warns: " + warning);
}

}  // namespace django_session::sessions
