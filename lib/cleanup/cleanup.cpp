// Plan, run, abort: the pre-flight, then the method it chose, and what became of it as a result.
#include "cleanup/cleanup.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cleanup/batch_delete.hpp"
#include "cleanup/bystanders.hpp"
#include "cleanup/clock.hpp"
#include "cleanup/delete_access.hpp"
#include "cleanup/failure.hpp"
#include "cleanup/living_swap.hpp"
#include "cleanup/outline.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/planner.hpp"
#include "cleanup/reclaim.hpp"
#include "cleanup/reindex.hpp"
#include "cleanup/run.hpp"
#include "cleanup/swap.hpp"
#include "cleanup/swap_sql.hpp"
#include "cleanup/vacuum_full.hpp"
#include "core/quantity.hpp"
#include "measure/probe.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Not endlessly: it may be us whom the server breaks down over (an index build that it has no
// memory for).
constexpr int kMostLosses = 5;

// {0} "" or "_xact", {1} cleanup_lock().
constexpr const char* kClaim = "SELECT pg_try_advisory{0}_lock({1}) AS claimed;";
// A client that vanished must not keep its locks for the two hours that TCP takes by default to
// find that out, nor one that was killed until its statement ends.
constexpr const char* kNoticeOurEnd = R"(
SELECT set_config(s.name, wanted.setting, false) FROM (VALUES
  ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'),
  ('client_connection_check_interval', '5s')) AS wanted(name, setting)  -- the last from 14 on
JOIN pg_settings s ON s.name = wanted.name;
)";
constexpr const char* kSize = "SELECT pg_total_relation_size({}::regclass) AS bytes;";

/// One call of run_cleanup() or abort_cleanup().
class Cleanup {
 public:
  Cleanup(Run& run, const TableName& table) : run_(run), table_(table) {}

  CleanupResult clean_up();
  CleanupResult abort();

 private:
  template <typename Steps>
  void guarded(Steps steps);
  void plan_and_carry_out();
  bool refuse_rehearsal();
  void reconnect(const std::string& loss);

  void let_the_server_notice_our_end();
  void claim(pg::Deadline given_up);
  bool try_to_claim(const char* scope);
  void look_again();
  void carry_out();
  void clear_the_way();
  void run_method();
  bool swap();
  void delete_and_reclaim();
  bool is_swapped() const;
  bool may_delete_instead(const pg::Error& error) const;
  void delete_instead(const pg::Error& error);
  void decide_cutoff();
  DeleteOrder delete_order() const;
  void say_what_was_left(const Undeleted& left);
  void measure_after();
  std::string summary() const;
  void say_who_was_waited_for(const Stopped& stopped);

  Run& run_;
  const TableName& table_;
  const Clock::time_point start_ = Clock::now();

  CleanupResult& result_ = run_.result();
  Planned planned_;
  Oid shadow_oid_;       ///< OID of a swap's shadow, which will take the table's name
  bool began_ = false;   ///< changes have been made
  bool silent_ = false;  ///< nothing is heard of the server
  std::string unsound_;  ///< why the swap that was chosen failed, and sessions are deleted instead
};

void Cleanup::say_who_was_waited_for(const Stopped& stopped) try {
  if (stopped.blocked_by.empty()) return;
  run_.note("the statement that is cancelled was waiting for " +
            sessions_of(run_, stopped.blocked_by));
} catch (const pg::Error&) {  // the server has gone meanwhile; why it ended stays true
}

template <typename Steps>
void Cleanup::guarded(Steps steps) {
  const auto ends = [this](Outcome outcome, const std::string& message) {
    result_.outcome = outcome;
    result_.message = message;
  };
  try {
    run_.connect();
    steps();
  } catch (const LeftToAnother& left) {
    ends(Outcome::stopped, left.what());
    result_.left_to_another = true;
  } catch (const Stopped& stopped) {
    say_who_was_waited_for(stopped);
    ends(Outcome::stopped, stopped.what());
  } catch (const NoSuchTable& missing) {
    ends(Outcome::refused, missing.what());
  } catch (const pg::Error& error) {
    silent_ = error.kind() == pg::Error::Kind::timeout;
    const Failure failure = explain(run_, table_, error);
    ends(failure.is_locked ? Outcome::stopped : Outcome::failed, failure.message);
  } catch (const std::exception& error) {
    ends(Outcome::failed, error.what());
  }
  measure_after();
  result_.duration = std::chrono::duration_cast<milliseconds>(Clock::now() - start_);
}

CleanupResult Cleanup::clean_up() {
  guarded([this] { plan_and_carry_out(); });
  if (result_.outcome == Outcome::done && !run_.options().rehearse)
    result_.message = summary() + (result_.message.empty() ? "" : "; " + result_.message);
  return result_;
}

CleanupResult Cleanup::abort() {
  guarded([this] {
    planned_ = inspect(run_, table_);
    result_.bytes_before = run_.target().bytes_before;
    const bool had_swap = remove_swap_leftovers(run_);
    const int indexes = remove_reindex_leftovers(run_);
    const std::string stays = result_.message;
    result_.message = had_swap || indexes > 0 ? "removed what an interrupted cleanup left"
                      : stays.empty()         ? "no interrupted cleanup left anything"
                                              : "nothing could be removed";
    if (!stays.empty()) result_.message += "; " + stays;
  });
  return result_;
}

void Cleanup::plan_and_carry_out() {
  planned_ = plan(run_, table_);
  const CleanupPlan& plan = planned_.plan;
  result_.method = plan.method;
  result_.bytes_before = run_.target().bytes_before;
  if (plan.refused) {
    result_.outcome = Outcome::refused;
    result_.message = plan.reason;
    return;
  }
  if (run_.options().rehearse && refuse_rehearsal()) return;
  if (run_.options().method == Method::automatic)
    run_.note(fmt::format("{}: {}", method_name(plan.method), plan.reason));
  for (const std::string& note : plan.notes) run_.note(note);
  claim(pg::Deadline::after(patience::kForOtherCleanup));
  clear_the_way();
  carry_out();
}

/// True where there is nothing to rehearse, or it would cost what an interrupted swap has copied.
bool Cleanup::refuse_rehearsal() {
  if (planned_.plan.method != Method::swap)
    result_.message = fmt::format(
        "only a swap can be rehearsed, and the method here is {}: {}; --dry-run says what it would "
        "do, --method swap rehearses a swap",
        method_name(planned_.plan.method), planned_.plan.reason);
  else if (planned_.preflight.leftovers.any())
    result_.message =
        "an interrupted swap, or rehearsal, is there, and another rehearsal would remove it: "
        "remove it with --abort, or have it resumed, and the tables exchanged, by a run without "
        "--rehearse";
  else
    return false;
  result_.outcome = Outcome::refused;
  return true;
}

void Cleanup::let_the_server_notice_our_end() try {
  run_.ask(kNoticeOurEnd);
} catch (const pg::Error& error) {  // not every platform can
  if (error.kind() != pg::Error::Kind::statement) throw;
}

/// For the session. Behind a pooler that lock would stay with a backend that others use: there, one
/// look; then each batch of a deletion takes it for itself, and a swap has its state's row.
void Cleanup::claim(pg::Deadline given_up) {
  const bool pooled = run_.connection().is_pooled(run_.soon());
  if (!pooled) let_the_server_notice_our_end();
  const char* const scope = pooled ? "_xact" : "";
  while (!try_to_claim(scope)) {
    if (given_up.passed())
      throw LeftToAnother("another cleanup of this table is running: its lock is held by " +
                          cleanup_lock_holder(run_));
    run_.rest(patience::kBetweenClaims);
    look_again();
  }
}

bool Cleanup::try_to_claim(const char* scope) {
  return run_.ask(fmt::format(kClaim, scope, cleanup_lock(run_.target().oid)))
      .front()
      .flag("claimed");
}

void Cleanup::look_again() {
  const CleanupTarget before = run_.target();
  try {
    planned_.preflight = look(run_, {before.schema, before.table});
  } catch (const NoSuchTable&) {
    if (began_) throw Stopped("the table was dropped or renamed meanwhile");
    throw;
  }
  const Oid now = run_.target().oid;
  if (now == before.oid || now == shadow_oid_) return;
  if (began_) throw Stopped("the table was replaced meanwhile");
  throw LeftToAnother("another cleanup of this table has just ended");
}

/// A swap that was interrupted is in the way of the other methods: its triggers would note rows
/// that they delete. A role that may only delete has to live with that.
void Cleanup::clear_the_way() {
  const Leftovers& leftovers = planned_.preflight.leftovers;
  const bool none = !leftovers.any() && leftovers.orphans.empty();
  if (planned_.plan.method == Method::swap || none) return;
  try {
    remove_swap_leftovers(run_);
  } catch (const pg::Error& error) {
    if (!error.insufficient_privilege()) throw;
    run_.note(fmt::format("an interrupted swap left {}: remove it with --abort as {}",
                          fmt::join(leftovers.objects, ", "), run_.target().owner));
  } catch (const Paused& paused) {
    const bool wanted = run_.observer().stop_requested() || run_.end().passed();
    if (planned_.plan.method != Method::remove || wanted) throw;
    run_.note(fmt::format("{}; deleting all the same", paused.what()));
  }
}

/// After a lost connection everything resumes where it was: what is in the database decides. Not so
/// where nothing is heard of the server: that costs one time limit, not many.
void Cleanup::carry_out() {
  began_ = true;
  result_.rows_deleted = 0;
  run_.work_begins(planned_.plan);
  std::string loss;
  for (int losses = 0;; reconnect(loss)) {
    try {
      return run_method();
    } catch (const pg::Error& error) {
      const bool lost = error.kind() == pg::Error::Kind::connection;
      if (!lost || ++losses > kMostLosses || planned_.plan.method == Method::full) throw;
      loss = error.what();
      result_.message.clear();  // all is said again
      run_.note(loss + "; connecting again");
    }
  }
}

/// `loss`: how the connection was lost, and what stays if it doesn't come back.
void Cleanup::reconnect(const std::string& loss) {
  const auto given_up = pg::Deadline::after(patience::kReconnects);
  std::string so_far = "before that: " + loss;
  for (;;) try {
      run_.rest(patience::kBetweenReconnects);
      run_.connect();
      look_again();
      return claim(given_up);  // the lost connection's backend may have it still
    } catch (const LeftToAnother&) {
      throw;
    } catch (const Stopped& stopped) {
      throw Stopped(fmt::format("{}; {}", stopped.what(), so_far));
    } catch (const pg::Error& error) {
      so_far = fmt::format("connecting again failed: {}; before that: {}", error.what(), loss);
      if (given_up.passed() || error.kind() == pg::Error::Kind::timeout)
        throw pg::Error(error.kind(), so_far, error.sqlstate());
    }
}

/// Again, since claiming the table may have taken a while: what is deleted, and what isn't copied,
/// is decided once, at the beginning of the work. First the moment, then whether the clock that
/// gave it can be trusted: a clock that is set later doesn't matter any more.
void Cleanup::decide_cutoff() {
  if (!run_.cutoff().empty()) return;
  std::string cutoff = cutoff_of(run_);
  if (const auto doubt = doubt_about_the_clock(run_)) throw Stopped("the server's clock " + *doubt);
  run_.decide_cutoff(std::move(cutoff));
}

void Cleanup::run_method() {
  decide_cutoff();
  if (planned_.plan.method == Method::swap && swap()) return;
  delete_and_reclaim();
}

/// False where sessions are to be deleted instead.
bool Cleanup::swap() try {
  if (is_swapped()) {
    if (result_.rows_deleted == 0.0) result_.rows_deleted = planned_.plan.expired_rows;
  } else {
    swap_table(run_, planned_.plan, shadow_oid_);
  }
  return true;
} catch (const pg::Error& error) {
  if (!may_delete_instead(error)) throw;
  delete_instead(error);
  return false;
}

/// After a lost connection: the new table has the name, and nothing is left to do.
bool Cleanup::is_swapped() const {
  return run_.target().oid == shadow_oid_ && !planned_.preflight.leftovers.any();
}

/// Of auto, which would else choose the same swap again and again: what is damaged among the live
/// sessions, or in an index, keeps nobody from deleting the expired ones.
bool Cleanup::may_delete_instead(const pg::Error& error) const {
  const auto& refusals = planned_.plan.refusals;
  const bool unsound = error.sqlstate() == kUnsound || error.corrupted();
  return unsound && run_.options().method == Method::automatic && !run_.options().rehearse &&
         std::none_of(refusals.begin(), refusals.end(),
                      [](const Refusal& refusal) { return refusal.method == Method::remove; });
}

void Cleanup::delete_instead(const pg::Error& error) {
  unsound_ = error.what();
  run_.note(unsound_ + "; deleting instead");
  planned_.plan.method = result_.method = Method::remove;
  run_.work_begins(planned_.plan);
  look_again();
  clear_the_way();
  result_.rows_deleted = 0;
}

void Cleanup::delete_and_reclaim() {
  remove_reindex_leftovers(run_);
  const DeleteAccess access = delete_access(run_);
  const Undeleted left = delete_expired(run_, access, delete_order());
  if (const std::string text = left.text(); !text.empty()) run_.note(text);
  const auto look = [&] { stop_if_a_swap_lives(run_, access); };
  if (planned_.plan.method == Method::full)
    vacuum_full(run_, look);
  else
    reclaim_after_delete(run_, look);
  say_what_was_left(left);
  if (!unsound_.empty())
    throw std::runtime_error(fmt::format("{}; {} expired sessions were deleted instead", unsound_,
                                         quantity_text(result_.rows_deleted, Unit::rows)));
}

DeleteOrder Cleanup::delete_order() const {
  const CleanupPlan& plan = planned_.plan;
  DeleteOrder order{run_.cutoff(), plan.expired_rows, std::nullopt};
  const double rows = plan.live_rows.value_or(0) + plan.expired_rows.value_or(0);
  if (rows > 0) order.bytes_per_row = run_.target().bytes_before / rows;
  return order;
}

/// Some that others hold are left to the next run; where it is more than that, this one hasn't done
/// what it was for.
void Cleanup::say_what_was_left(const Undeleted& left) {
  const std::string text = left.text();
  if (text.empty()) return;
  if (!left.few(result_.rows_deleted.value_or(0)))
    throw Stopped(
        fmt::format("{} deleted, but {}", quantity_text(result_.rows_deleted, Unit::rows), text));
  result_.message = text + (result_.message.empty() ? "" : "; " + result_.message);
}

/// By name: after a swap another table has it. Unknown where the server no longer answers, and
/// where a user waits for our end.
void Cleanup::measure_after() {
  if (run_.target().sql_name.empty() || silent_ || run_.observer().stop_requested()) return;
  try {
    if (!run_.is_connected()) run_.connect();
    const std::string name = run_.connection().literal(run_.target().sql_name);
    result_.bytes_after = run_.ask(fmt::format(kSize, name)).front().number("bytes");
  } catch (const std::exception&) {
    return;
  }
}

std::string Cleanup::summary() const {
  return fmt::format(
      "{}: {} expired sessions deleted{} in {}; longest lock {} ms", method_name(result_.method),
      rows_deleted_text(result_), sizes_text(result_, ", "),
      format_quantity(static_cast<double>(result_.duration.count()) / 1000, Unit::seconds),
      result_.longest_lock.count());
}

/// Of a plan.
class Nobody : public CleanupObserver {
 public:
  bool stop_requested() override { return false; }
  void on_progress(const CleanupProgress&) override {}
  void on_note(const std::string&) override {}
};

}  // namespace

DryRun plan_cleanup(const pg::Parameters& parameters, const TableName& table,
                    const CleanupOptions& options) {
  CleanupOptions unhurried = options;
  unhurried.max_duration.reset();
  Nobody nobody;
  Run run(parameters, unhurried, nobody);
  run.connect();
  try {
    const Planned planned = plan(run, table);
    return {planned.plan, outline_of(run, planned)};
  } catch (const pg::Error& error) {
    const Failure failure = explain(run, table, error);
    if (failure.is_locked) throw Stopped(failure.message);
    throw pg::Error(error.kind(), failure.message, error.sqlstate());
  }
}

CleanupResult run_cleanup(const pg::Parameters& parameters, const TableName& table,
                          const CleanupOptions& options, CleanupObserver& observer) {
  Run run(parameters, options, observer);
  return Cleanup(run, table).clean_up();
}

CleanupResult abort_cleanup(const pg::Parameters& parameters, const TableName& table,
                            const CleanupOptions& options, CleanupObserver& observer) {
  Run run(parameters, options, observer);
  return Cleanup(run, table).abort();
}

}  // namespace django_session::sessions
