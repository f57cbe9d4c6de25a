// The swap, step by step. The state's phase says where it is:
//
//   (nothing)    create state, log and shadow                                 -> created
//   created      create the triggers: from now on every change is noted       -> copying
//   copying      copy the live sessions, chunk by chunk; remove those that
//                changed meanwhile; build the indexes                         -> catching up
//   catching up  VACUUM, bring the changed sessions up to date, compare all   -> ready
//   ready        bring up to date, try the exchange, until it succeeds        -> exchanged
//   exchanged    drop the replaced table and the rest                         -> (nothing)
//   stopped      a run gave up and couldn't remove its triggers: remove    -> (nothing)
//
// Each transition is in the same transaction as what it stands for, so a run that dies anywhere is
// taken up by the next one at the phase it finds.
#include "cleanup/swap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "cleanup/as_owner.hpp"
#include "cleanup/bystanders.hpp"
#include "cleanup/lock_wait.hpp"
#include "cleanup/long_statement.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/refusals.hpp"
#include "cleanup/replicas.hpp"
#include "cleanup/swap_sql.hpp"
#include "core/batch_size.hpp"
#include "core/cleanup_plan.hpp"
#include "core/sql_name.hpp"
#include "measure/leftovers.hpp"
#include "measure/more_rights.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr double kVacuumAfter = 50'000;  // drained keys
constexpr int kMostRestarts = 3, kMostGrants = 3;
// An interrupted run is not resumed beyond these: starting over is quicker, or safer.
constexpr double kLongestLog = 1024.0 * 1024 * 1024;  // bytes
// The exchange reads the log under its lock, and files don't shrink.
constexpr double kSmallLog = 16.0 * 1024 * 1024, kLogGrowth = 1024.0 * 1024;  // bytes
constexpr double kUnknownRows = -1;  // in the state's rows_before
// Fewer sessions than this are not worth a transaction.
constexpr long long kSmallestCopy = 500;
// More changed sessions than this aren't brought up to date under the exclusive lock; fewer where
// they take long, say because they are large.
constexpr int kMostKeysUnderLock = 500, kFewestKeysUnderLock = 20;
// What is measured of fewer keys says little about the time that one takes.
constexpr double kEnoughKeys = 20;

// {0} the table's OID: of the table and of the swap's helpers, which are its owner's.
constexpr const char* kOurRelations = R"(
  SELECT c.oid FROM pg_class t JOIN pg_class c ON c.oid = t.oid
    OR c.relname IN ('djs_{0}_state', 'djs_{0}_log', 'djs_{0}_new') AND c.relowner = t.relowner
  WHERE t.oid = {0})";

// While another session waits for a lock that we hold, and we for one of its, it is the one that is
// cancelled if its deadlock_timeout is over first.
constexpr const char* kDeadlockTimeout = R"(
SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 AS ms;
)";

// Ends of messages: what stays where even the removal gets no lock or no answer.
constexpr const char* kHelpersAreLeft =
    "; what the swap made remains, and its triggers keep logging which sessions change: the next "
    "run resumes or removes it, --abort removes it";
constexpr const char* kDisabledAreLeft =
    "; the swap's triggers remain, disabled: the next run, or --abort, removes them";

// {0} the table's OID, {1} kSetRole.
constexpr const char* kMayRemove = R"(
SELECT session_user AS role, pg_has_role(c.relowner, {1}) AS allowed
FROM pg_class c WHERE c.oid = {0};
)";
bool is(const pg::Error& error, const char* sqlstate) { return error.sqlstate() == sqlstate; }

/// Worth another try after a while: the lock was not granted, what was to be done under it took too
/// long, or the server chose us in a deadlock.
bool is_lock_trouble(const pg::Error& error) {
  return error.lock_not_available() || error.statement_timed_out() || error.deadlock();
}

/// Of a lock that another session needs longer: tried again, so that nobody waits for us for
/// nothing.
bool is_given_way(const pg::Error& error) { return error.lock_not_available() || error.deadlock(); }

bool is_taken_over(const pg::Error& error) { return is(error, kTakenOver); }

/// Of a table that can't be dropped.
bool is_depended_on(const pg::Error& error) { return is(error, "2BP01"); }

/// The table is no longer what it was when copying began.
bool is_changed(const pg::Error& error) { return is(error, kChanged); }

/// "tuple concurrently updated": a GRANT, which takes no lock on the table, was quicker.
bool is_concurrent_grant(const pg::Error& error) { return is(error, "XX000"); }

std::string replaced_is_left(const std::exception& reason) {
  return fmt::format(
      "{}; the tables are exchanged, but the replaced one is still there: the next run, or "
      "--abort, drops it",
      reason.what());
}

std::string going_on_although(const OldTransaction& old) {
  if (old.only_writes)
    return fmt::format(
        "continuing although {} has an open transaction: if it created anything of the table's row "
        "type, the replaced table can't be dropped",
        old.who);
  return fmt::format(
      "continuing although {} has an older snapshot: if it is REPEATABLE READ or SERIALIZABLE and "
      "has not read the table yet, it will not see the sessions in it",
      old.who);
}

milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
}

SwapNames names_of(Run& run) {
  const pg::Connection& connection = run.connection();
  const CleanupTarget& target = run.target();
  return {target.oid, connection.identifier(target.schema), target.sql_name,
          connection.identifier(target.owner), run.id()};
}

class Swap {
 public:
  Swap(Run& run, std::string& twin)
      : run_(run),
        connection_(run.connection()),
        target_(run.target()),
        options_(run.options()),
        run_end_(run.end()),
        observer_(run.observer()),
        result_(run.result()),
        names_(names_of(run)),
        twin_(twin),
        lock_timeout_(options_.lock_timeout),
        held_(options_.lock_timeout) {}

  void run(const CleanupPlan& plan);
  bool remove_leftovers();

 private:
  struct State {
    std::string run_id, phase, twin;  ///< checked: the owner could have written anything there
    double keep_seconds = 0, copied = 0, rows_before = 0, bytes_before = 0, age = 0, lease = 0;
    bool backend_gone = false, is_vacuumed = false, intact = false;
    bool lives() const { return is_vacuumed || (lease > 0 && !backend_gone); }
  };

  // Whose run it is
  void acquire();
  void take_over(State state);
  void wait_for_lease(State& state);
  bool can_go_on(const State& state, double log_bytes) const;
  State read_state();
  Leftovers find_leftovers();
  void remove_orphans(const Leftovers& leftovers);

  // The steps
  void go_on();
  void create();
  [[noreturn]] void explain_who_has_the_names();
  void create_triggers();
  void copy();
  long long copy_chunk(long long wanted);
  void build_indexes();
  void catch_up();
  void vacuum_shadow();
  void drain();
  double drain_once();
  int most_keys_under_lock() const;
  void keep_log_small();
  bool vacuum(const std::string& what, const std::string& table);
  void verify();
  double count_live(CountBy by, const char* name);
  std::string what_is_damaged();
  std::string who_let_them_in();
  void wait_for_old_snapshots();
  void exchange();
  void try_exchange();
  void note_what_it_was();
  void drop_replaced();
  void wait_for_writers();
  [[noreturn]] void explain_what_depends(const pg::Error& error);
  void begin_anew(const std::string& why);
  void remove();
  void remove(const SwapNames& names, bool guarded);
  std::vector<std::string> triggered_tables(const SwapNames& names);
  std::vector<std::string> tables_with_triggers_now();
  bool keep_for_next_run() const;
  std::string tidy_up();
  void take_over_to_remove();
  void refuse_who_may_not_remove();

  // Waiting for locks
  void with_lock(const std::string& doing, Lock lock, const std::function<void()>& attempt,
                 const std::function<void()>& while_hopeless = {});
  void limit_waits();
  void wait_for_table(const pg::Error& error);
  void wait_till_calm();
  void renew_lease();
  std::string our_tables() const;
  void timed(const std::string& sql, TransactionLimits limits);

  // Messages
  TransactionLimits quick() const {
    return limits(std::min(own_lock_, options_.answer_timeout / 4));
  }
  TransactionLimits on_table() const { return limits(lock_timeout_); }
  /// The server ends a statement before we give up the connection.
  TransactionLimits limits(milliseconds lock) const {
    return {lock, lock + options_.answer_timeout / 2};
  }
  TransactionLimits unhurried() const {
    return {own_lock_, std::min<milliseconds>(run_end_.remaining(), patience::kLongestStatement) +
                           patience::kOurselvesFirst};
  }
  pg::Deadline answer_to(TransactionLimits limits) const {
    return pg::Deadline::after(limits.lock + options_.answer_timeout);
  }
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }
  pg::Rows send(const std::string& sql, TransactionLimits limits) {
    return run_.send(sql, answer_to(limits));
  }
  /// What the message's work has reported.
  pg::Row report(const std::string& sql, TransactionLimits limits) {
    send(sql, limits);
    return report_of(connection_);
  }
  pg::Row report_long(const std::string& sql) {
    send_long(sql);
    return report_of(connection_);
  }
  pg::Rows send_long(const std::string& sql) { return send_long(sql, run_end_); }
  pg::Rows send_long(const std::string& sql, pg::Deadline end);
  void tell(const std::string& phase);

  Run& run_;
  pg::Connection& connection_;
  const CleanupTarget& target_;
  const CleanupOptions& options_;
  const pg::Deadline run_end_;
  CleanupObserver& observer_;
  CleanupResult& result_;

  SwapNames names_;
  Columns columns_;
  std::string& twin_;  ///< OID of the shadow, the caller's to keep
  std::string phase_;
  BatchSize drain_size_;
  double rows_before_ = 0, bytes_before_ = 0, copied_ = 0, drained_ = 0;
  double log_bytes_ = 0;          ///< of the log, when last looked at
  double log_worth_ = kSmallLog;  ///< bytes of the log from which on it is worth a collapse
  double ms_per_key_ = 0;         ///< of the last drain that was long enough to tell
  double more_keys_ = 1;          ///< times what was meant to be enough under the exclusive lock
  milliseconds own_lock_ = patience::kHelpersLock, lock_timeout_;
  milliseconds held_;                            ///< for so long the exclusive lock may be held
  std::optional<Clock::time_point> locked_out_;  ///< since when the table is locked
  Clock::time_point renewed_;  ///< when the lease was, by itself, while the run waits
  int restarts_ = 0;
  bool ours_ = false;  ///< the state's row is
  CleanupProgress progress_;
};

// -- Whose run it is ------------------------------------------------------------------------------

Leftovers Swap::find_leftovers() {
  return read_leftovers(run_.ask(leftovers_query(names_.oid)).front());
}

Swap::State Swap::read_state() {
  const pg::Row row = report(read_state_sql(names_, quick()), quick());
  const auto number = [&](const char* column) { return row.number(column).value_or(0); };
  std::string phase = row.text("phase");
  std::replace(phase.begin(), phase.end(), '_', ' ');
  if (row.text("twin").find_first_not_of("0123456789") != std::string::npos)
    throw std::runtime_error("the state of the swap is damaged; --abort removes it");
  return {row.text("run_id"),      phase,
          row.text("twin"),        number("keep_seconds"),
          number("copied"),        number("rows_before"),
          number("bytes_before"),  number("age"),
          number("lease"),         row.flag("backend_gone"),
          row.flag("is_vacuumed"), row.flag("intact")};
}

void Swap::acquire() {
  const Leftovers leftovers = find_leftovers();
  remove_orphans(leftovers);
  if (leftovers.state) {
    take_over(read_state());
    if (phase_ == "exchanged" || can_go_on(read_state(), leftovers.log_bytes)) {
      observer_.on_note(fmt::format("resuming an interrupted swap, which was {}", phase_));
      log_bytes_ = leftovers.log_bytes;
      if (phase_ != "exchanged") keep_log_small();
      return;
    }
  }
  if (leftovers.any()) {
    observer_.on_note("removing " + describe_leftovers(leftovers));
    with_lock("to remove what is left of a swap", Lock::access_exclusive, [this] { remove(); });
  }
  create();
}

/// A run that is alive renews its lease with every transaction, and each of those is shorter than
/// the lease unless it holds the row, or is a VACUUM or ANALYZE; one whose backend is gone is dead.
/// Twice, since it may be between two of those. To be wrong would do no harm: a run that was taken
/// over finds out before it does anything further.
void Swap::wait_for_lease(State& state) {
  const double first_seen = state.lease + state.age;
  const auto given_up = pg::Deadline::after(patience::kForForeignVacuum);
  for (bool lived = true; state.run_id != names_.run_id && (lived || state.lives());) {
    lived = state.lives();
    if (state.lease + state.age > first_seen + 1 || (state.is_vacuumed && given_up.passed()))
      throw LeftToAnother("another cleanup of this table is running");
    run_.rest(patience::kShortestPause * 3);
    state = read_state();
  }
}

void Swap::take_over(State state) {
  wait_for_lease(state);
  try {
    if (!report(take_over_sql(names_, quick(), state.run_id), quick()).flag("taken"))
      throw LeftToAnother("another cleanup of this table has just begun");
  } catch (const pg::Error& error) {
    if (!is_lock_trouble(error)) throw;
    throw LeftToAnother("another cleanup of this table is running");
  }
  ours_ = true;
  phase_ = state.phase;
  twin_ = state.twin;
  copied_ = state.copied;
  // Another run that deleted meanwhile counts that as its own.
  if (phase_ == "exchanged" || rows_before_ < 0) rows_before_ = state.rows_before;
  bytes_before_ = state.bytes_before;
}

bool Swap::can_go_on(const State& state, double log_bytes) const {
  return state.intact && state.phase != "stopped" && state.age < kOldestSwapToResume &&
         log_bytes < kLongestLog &&
         state.keep_seconds == static_cast<double>(options_.keep.count());
}

/// Helpers of a table that was dropped, or, after a restore from a dump, of one that had another
/// OID: then their triggers are on the table of now.
void Swap::remove_orphans(const Leftovers& leftovers) {
  for (const std::string& oid : leftovers.orphans) {
    SwapNames names = names_;
    names.oid = oid;
    observer_.on_note(
        fmt::format("removing the helpers djs_{}_* of a table that no longer exists", oid));
    with_lock("to remove the triggers of an earlier swap", Lock::access_exclusive,
              [&] { remove(names, false); });
  }
}

// -- The steps ------------------------------------------------------------------------------------

void Swap::run(const CleanupPlan& plan) {
  rows_before_ =
      plan.live_rows && plan.expired_rows ? *plan.live_rows + *plan.expired_rows : kUnknownRows;
  bytes_before_ = target_.bytes_before;
  progress_.rows_total = plan.live_rows.value_or(0);
  try {
    limit_waits();
    acquire();
    while (phase_ != "done") go_on();
  } catch (const Paused& paused) {
    if (!keep_for_next_run()) {
      const std::string left = tidy_up();
      if (left.empty()) throw;
      throw Paused(paused.what() + left);
    }
    throw Paused(
        fmt::format("{}; what is copied is kept, and triggers log what changes: the next run "
                    "resumes it within 8 days; --abort removes it",
                    paused.what()));
  } catch (const LeftToAnother&) {
    throw;
  } catch (const Stopped& stopped) {
    const std::string left = tidy_up();
    if (left.empty()) throw;
    throw Stopped(stopped.what() + left);
  } catch (const pg::Error& error) {
    if (is_taken_over(error)) throw LeftToAnother(error.what());
    const std::string left = tidy_up();
    if (error.statement_timed_out())
      throw Stopped(fmt::format("the server ended a statement while {}: {}{}", progress_.phase,
                                error.what(), left));
    if (is_lock_trouble(error))
      throw Stopped("the table is locked: " + lock_holders(run_, our_tables()) + left);
    if (left.empty()) throw;
    throw pg::Error(error.kind(), error.what() + left, error.sqlstate());
  }
}

void Swap::go_on() try {
  if (columns_.empty())
    for (const pg::Row& row : run_.ask(columns_query(names_))) columns_.push_back(row.text("name"));
  if (phase_ == "created") return create_triggers();
  if (phase_ == "copying") return copy();
  if (phase_ == "catching up") return catch_up();
  if (phase_ == "ready") return exchange();
  if (phase_ == "exchanged") return drop_replaced();
  throw std::logic_error("a swap's state has the unknown phase " + phase_);
} catch (const pg::Error& error) {
  if (is_given_way(error)) return wait_for_table(error);
  if (!is_changed(error)) throw;
  begin_anew(error.what());
}

/// Each step is one transaction and can be tried again.
void Swap::wait_for_table(const pg::Error& error) {
  if (!locked_out_) locked_out_ = Clock::now();
  if (since(*locked_out_) > patience::kForSwapsLock) throw;
  observer_.on_note(fmt::format("waiting: {}", error.what()));
  run_.rest(patience::kLongTransaction);
  renew_lease();
}

void Swap::wait_till_calm() {
  wait_for_replicas(run_, [this] { renew_lease(); });
}

/// While the run waits. The session that has the state's row locked may be the one waited for.
void Swap::renew_lease() {
  if (!ours_ || since(renewed_) < patience::kBetweenRenewals) return;
  renewed_ = Clock::now();
  try {
    send(renew_sql(names_, quick()), quick());
  } catch (const pg::Error& error) {
    if (!is_lock_trouble(error)) throw;
  }
}

void Swap::create() {
  tell("creating the new table");
  try {
    const std::string cutoff = run_.moment(run_.cutoff());
    send(create_sql(names_, quick(), {options_.keep.count(), cutoff, rows_before_, bytes_before_}),
         quick());
  } catch (const pg::Error& error) {
    constexpr const char *kDuplicateTable = "42P07", *kUniqueViolation = "23505";
    if (is(error, kDuplicateTable) || is(error, kUniqueViolation)) explain_who_has_the_names();
    if (is(error, kChanged)) throw Stopped("the table has just been replaced");
    throw;
  }
  ours_ = true;
  copied_ = 0;
  columns_.clear();
  const State state = read_state();
  phase_ = state.phase;
  twin_ = state.twin;
}

/// Another session was quicker, after we looked.
void Swap::explain_who_has_the_names() {
  for (const pg::Row& row : run_.ask(taken_names_query(names_.oid) + ";"))
    throw pg::Error(pg::Error::Kind::statement, row.text("object") + " " + row.text("reason"),
                    kNameTaken);
  throw LeftToAnother("another cleanup of this table has just begun");
}

void Swap::create_triggers() {
  tell("creating the triggers");
  with_lock("to create the triggers", Lock::share_row_exclusive,
            [this] { timed(create_triggers_sql(names_, on_table()), on_table()); });
  phase_ = "copying";
}

void Swap::copy() {
  BatchSize size;
  for (;;) {
    run_.check();
    wait_till_calm();
    const auto start = Clock::now();
    const long long wanted = std::max<long long>(size.rows(), kSmallestCopy);
    const long long rows = copy_chunk(wanted);
    if (rows < wanted) break;
    if (rows < 2 * wanted) size.took(since(start));  // else it says nothing about the size
    tell("copying");
    run_.rest(since(start) / 4);
    keep_log_small();
  }
  build_indexes();
}

/// The rows of this chunk: more than wanted where many expire at the same moment, which may take
/// long.
long long Swap::copy_chunk(long long wanted) {
  const pg::Row chunk = report_long(copy_sql(names_, unhurried(), columns_, wanted));
  copied_ = chunk.number("copied").value_or(0);
  log_bytes_ = chunk.number("log_bytes").value_or(0);
  return static_cast<long long>(chunk.number("rows").value_or(0));
}

void Swap::build_indexes() {
  tell("building indexes");
  if (log_bytes_ > kLogGrowth) {
    send_long(forget_changed_sql(names_, unhurried()));
    vacuum("(TRUNCATE off)", names_.shadow());
  }
  try {
    copied_ =
        report_long(build_indexes_sql(names_, unhurried(), columns_)).number("copied").value();
  } catch (const pg::Error& error) {
    constexpr const char* kUniqueViolation = "23505";
    if (!is(error, kUniqueViolation)) throw;
    throw pg::Error(error.kind(), who_let_them_in(), kUnsound);
  }
  phase_ = "catching up";
}

void Swap::catch_up() {
  tell("catching up");
  drain();
  tell("vacuuming");
  vacuum_shadow();
  tell("catching up");
  drain();
  tell("comparing");
  verify();
}

/// So that visibility map and statistics are there when the clients come. A role that isn't a
/// member of the owner with INHERIT may not VACUUM, but gets ANALYZE as the owner.
void Swap::vacuum_shadow() {
  send(flush_statistics_sql(names_, quick()), quick());
  if (!vacuum("(ANALYZE)", names_.shadow())) send_long(analyze_sql(names_, unhurried()));
}

/// False where this role may not.
bool Swap::vacuum(const std::string& what, const std::string& table) {
  try {
    run_.run_long(fmt::format("VACUUM {} {}", what, table), own_lock_);
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    observer_.on_note(fmt::format("{} could not be vacuumed: {}", table, error.what()));
  }
  return connection_.take_warnings().empty();
}

/// While sessions are copied the log isn't drained; that each key is in it once keeps it in bounds.
void Swap::keep_log_small() {
  if (log_bytes_ < log_worth_) return;
  send_long(collapse_log_sql(names_, unhurried()));
  vacuum("(TRUNCATE off)", names_.log());
  log_worth_ = log_bytes_ + kLogGrowth;
}

/// Until less than a batch is left. What was replaced and removed becomes free room, in the shadow
/// and in the log: each drain walks over it.
void Swap::drain() {
  for (;;) {
    run_.check();
    const auto start = Clock::now();
    const int wanted = drain_size_.rows();
    const double keys = drain_once();
    drained_ += keys;
    if (keys < wanted) break;
    wait_till_calm();
    run_.rest(since(start) / 4);
  }
  if (drained_ < kVacuumAfter) return;
  drained_ = 0;
  vacuum("(TRUNCATE off)", names_.log());
  vacuum("(TRUNCATE off)", names_.shadow());
}

/// The number of keys.
double Swap::drain_once() {
  const auto start = Clock::now();
  pg::Row drained;
  try {
    drained = report(drain_sql(names_, quick(), columns_, drain_size_.rows()), quick());
  } catch (const pg::Error& error) {
    constexpr const char* kOneRowTwice = "21000";
    if (!is(error, kOneRowTwice)) throw;
    throw pg::Error(error.kind(), who_let_them_in(), kUnsound);
  }
  if (drained.flag("truncated"))
    throw pg::Error(pg::Error::Kind::statement, "the table was truncated", kChanged);
  const double keys = drained.number("keys").value();
  const double ms = drained.number("ms").value_or(0);
  if (keys >= kEnoughKeys || ms > 50) ms_per_key_ = ms / std::max(keys, 1.0);
  if (keys >= drain_size_.rows()) drain_size_.took(since(start));
  return keys;
}

/// As many as take half of the time for which the lock may be waited for; more where that is less
/// than what changes until the lock is granted.
int Swap::most_keys_under_lock() const {
  if (ms_per_key_ <= 0) return kMostKeysUnderLock;
  const double keys = more_keys_ * static_cast<double>(lock_timeout_.count()) / 2 / ms_per_key_;
  return static_cast<int>(std::clamp<double>(keys, kFewestKeysUnderLock, kMostKeysUnderLock));
}

void Swap::verify() try {
  const pg::Row counted = report_long(verify_sql(names_, unhurried(), columns_));
  copied_ = counted.number("copied").value();
  rows_before_ = counted.number("rows_before").value();
  phase_ = "ready";
} catch (const pg::Error& error) {
  if (!is(error, kUnsound)) throw;
  throw pg::Error(error.kind(), fmt::format("{}; {}", error.what(), what_is_damaged()), kUnsound);
}

double Swap::count_live(CountBy by, const char* name) {
  return report_long(count_live_sql(names_, unhurried(), by)).number(name).value();
}

/// Of the ways by which a swap finds sessions: those that don't find all that the table holds.
std::string Swap::what_is_damaged() {
  const double heap = count_live(CountBy::heap, "heap");
  std::string damaged, remedy;
  for (const pg::Row& index : run_.ask(search_indexes_query(names_))) {
    const bool is_key = index.flag("is_key");
    const double found =
        is_key ? count_live(CountBy::key, "key") : count_live(CountBy::index, "index");
    if (found >= heap) continue;
    const std::string name = sql_table(target_.schema, index.text("name"));
    damaged += fmt::format("; index {} lacks {} live sessions", name, heap - found);
    remedy += fmt::format("; run REINDEX INDEX CONCURRENTLY {}, then this again", name);
  }
  return "nothing was exchanged" + damaged + remedy;
}

/// Of sessions that are in the table twice: the shadow has unique indexes only where the table has.
std::string Swap::who_let_them_in() {
  std::string index = "the primary key";
  for (const pg::Row& row : run_.ask(search_indexes_query(names_)))
    if (row.flag("is_key")) index = sql_table(target_.schema, row.text("name"));
  return fmt::format(
      "nothing was exchanged; index {0} is damaged: the table has a session twice that it should "
      "have refused; delete the duplicates, run REINDEX INDEX CONCURRENTLY {0}, then this again",
      index);
}

void Swap::wait_for_old_snapshots() {
  const std::string mark = snapshot_mark(run_);
  const auto given_up = pg::Deadline::after(patience::kForOldSnapshots);
  for (;;) {
    const auto old = oldest_transaction(run_, mark);
    if (!old) return;
    if (given_up.passed()) return run_.note(going_on_although(*old));
    drain();
    run_.rest(patience::kShortestPause * 3);
  }
}

void Swap::exchange() {
  tell("catching up");
  drain();
  const auto refusals = swap_refusals(run_);
  if (!refusals.empty())
    throw Stopped("a swap is no longer possible: " + describe(refusals.front()));
  wait_for_old_snapshots();
  tell("exchanging");
  const auto try_it = [this] {
    drain();
    try_exchange();
  };
  // The log must not grow while we wait.
  with_lock("to exchange the tables", Lock::access_exclusive, try_it, [this] { drain(); });
  phase_ = "exchanged";
  names_.oid = twin_;  // the helpers are called after the table that has the name now
  note_what_it_was();
}

/// From the exchange on it is so, whatever happens to the replaced table.
void Swap::note_what_it_was() {
  result_.rows_deleted.reset();
  if (rows_before_ >= 0) result_.rows_deleted = std::max(0.0, rows_before_ - copied_);
  result_.bytes_before = bytes_before_;
}

void Swap::try_exchange() {
  try {
    timed(exchange_sql(names_, on_table(), columns_, {most_keys_under_lock(), held_}), on_table());
  } catch (const pg::Error& error) {
    // On a slow server less time than this never suffices.
    if (error.statement_timed_out())
      held_ = std::min(2 * held_, lock_timeout_ + patience::kLongestHeld);
    if (!is_concurrent_grant(error)) throw;
    throw pg::Error(pg::Error::Kind::statement, error.what(), kChanged);
  }
}

void Swap::drop_replaced() {
  tell("dropping the replaced table");
  note_what_it_was();
  const auto longest_lock = result_.longest_lock;
  // Even if max-duration is reached. To remove the files of a large table takes its time.
  const auto drop = [this] {
    send_long(remove_sql(names_, on_table(), ours_, {}),
              pg::Deadline::after(patience::kLongestStatement));
    ours_ = false;
  };
  try {
    wait_for_writers();
    drop();
  } catch (const Paused& paused) {
    throw Stopped(replaced_is_left(paused));
  } catch (const pg::Error& error) {
    const bool refused = error.kind() == pg::Error::Kind::statement;
    if (refused && is_depended_on(error)) explain_what_depends(error);
    if (!refused || !is_lock_trouble(error))
      throw pg::Error(error.kind(), replaced_is_left(error), error.sqlstate());
    with_lock("to drop the replaced table", Lock::access_exclusive, drop);
  }
  result_.longest_lock = longest_lock;  // nobody else uses that table
  ours_ = false;
  phase_ = "done";
}

/// Nothing shows what another session makes of the replaced table's row type before it commits, and
/// the drop would break it.
void Swap::wait_for_writers() {
  const std::string mark = snapshot_mark(run_);
  const auto given_up = pg::Deadline::after(patience::kForOldSnapshots);
  while (!given_up.passed() && !run_end_.passed() && !observer_.stop_requested()) {
    if (!has_old_writers(run_, mark)) return;
    renew_lease();
    run_.rest(patience::kShortestPause);
  }
}

/// A session whose transaction was open during the exchange has made something of the row type by
/// its OID, which nothing showed before it committed.
void Swap::explain_what_depends(const pg::Error& error) {
  const std::string why = why_it_stays(find_leftovers());
  throw Stopped(why.empty() ? replaced_is_left(error) : "the tables are exchanged, but " + why);
}

void Swap::begin_anew(const std::string& why) {
  if (++restarts_ > kMostRestarts) throw Stopped("the table keeps changing: " + why);
  observer_.on_note("starting over: " + why);
  phase_ = "stopped";  // nothing of it is drained or kept from here
  with_lock("to remove the triggers", Lock::access_exclusive, [this] { remove(); });
  const auto refusals = swap_refusals(run_);
  if (!refusals.empty())
    throw Stopped("a swap is no longer possible: " + describe(refusals.front()));
  create();
}

void Swap::remove() {
  remove(names_, ours_);
  ours_ = false;
  for (const pg::Row& row : run_.ask(left_behind_query(names_.oid)))
    observer_.on_note(
        fmt::format("{} is left alone: {} may not drop it", row.text("object"), target_.owner));
}

void Swap::remove(const SwapNames& names, bool guarded) {
  timed(remove_sql(names, on_table(), guarded, triggered_tables(names)), on_table());
}

std::vector<std::string> Swap::triggered_tables(const SwapNames& names) {
  std::vector<std::string> tables;
  for (const pg::Row& row : run_.ask(triggered_tables_query(names)))
    tables.push_back(row.text("name"));
  return tables;
}

/// Copying may take longer than one run may. Of an exchange that is done only the end is missing.
bool Swap::keep_for_next_run() const {
  return ours_ && copied_ > 0 && phase_ != "created" && phase_ != "exchanged" &&
         phase_ != "stopped";
}

/// Of a run that is about to give up.
std::vector<std::string> Swap::tables_with_triggers_now() try {
  return triggered_tables(names_);
} catch (const pg::Error&) {
  return {names_.table};
}

/// Before the run gives up: nothing that grows or slows the site may stay, if that can be had
/// within seconds. What stays all the same, as the end of a message.
std::string Swap::tidy_up() {
  if (!ours_ || phase_ == "exchanged") return "";
  if (!connection_.usable()) return kHelpersAreLeft;
  const auto deadline =
      pg::Deadline::after(std::min<milliseconds>(patience::kTidyUp, options_.answer_timeout));
  const auto tables = tables_with_triggers_now();
  const auto works = [&](const std::string& sql) {
    try {
      run_.send(sql, deadline);
      return true;
    } catch (const pg::Error&) {
      return false;
    }
  };
  if (works(remove_sql(names_, on_table(), true, tables))) return "";
  if (!connection_.usable()) return kHelpersAreLeft;
  return works(disable_sql(names_, on_table())) ? kDisabledAreLeft : kHelpersAreLeft;
}

/// A state that can no longer be read or written, whatever was done to it, is nobody's.
void Swap::take_over_to_remove() try { take_over(read_state()); } catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement || is_taken_over(error) || is_lock_trouble(error))
    throw;
  observer_.on_note(fmt::format("the state of the swap can't be used: {}", error.what()));
}

void Swap::refuse_who_may_not_remove() {
  const pg::Row row = run_.ask(fmt::format(kMayRemove, names_.oid, kSetRole)).front();
  if (row.flag("allowed")) return;
  throw pg::Error(pg::Error::Kind::statement,
                  fmt::format("role {} may not remove what an interrupted swap left: run "
                              "django_session_cleanup --abort as {}",
                              row.text("role"), target_.owner),
                  pg::Error::kInsufficientPrivilege);
}

bool Swap::remove_leftovers() try {
  limit_waits();
  const Leftovers leftovers = find_leftovers();
  if (leftovers.any() || !leftovers.orphans.empty()) refuse_who_may_not_remove();
  remove_orphans(leftovers);
  if (!leftovers.any()) return !leftovers.orphans.empty();
  if (leftovers.state) take_over_to_remove();
  observer_.on_note("removing " + describe_leftovers(leftovers));
  with_lock("to remove what is left of a swap", Lock::access_exclusive, [this] { remove(); });
  return true;
} catch (const pg::Error& error) {
  if (is_depended_on(error)) explain_what_depends(error);
  if (!is_taken_over(error)) throw;
  throw LeftToAnother(error.what());
}

// -- Waiting for locks ----------------------------------------------------------------------------

/// Waits of ours end well before another session's deadlock_timeout, so that one that waits for us,
/// and we for it, is never the one that is cancelled.
void Swap::limit_waits() {
  const pg::Row row = run_.ask(kDeadlockTimeout).front();
  const milliseconds most(std::max(1LL, static_cast<long long>(row.number("ms").value() / 2)));
  own_lock_ = std::min<milliseconds>(patience::kHelpersLock, most);
  if (lock_timeout_ <= most) return;
  lock_timeout_ = held_ = most;
  observer_.on_note(
      fmt::format("each lock is tried for {} ms, not {}: half of the server's deadlock_timeout, so "
                  "that no other session is cancelled for a deadlock",
                  most.count(), options_.lock_timeout.count()));
}

/// Tries until the lock is granted, not more often than every 100 ms, and not while a session is
/// there that won't be gone soon: the next ones in the lock's queue wait behind us. At such a
/// moment something else is done instead: `while_hopeless`.
void Swap::with_lock(const std::string& doing, Lock lock, const std::function<void()>& attempt,
                     const std::function<void()>& while_hopeless) {
  LockWait wait(run_, {"the lock " + doing, our_tables(), patience::kForSwapsLock,
                       patience::kFirstLockNote, patience::kBetweenLockNotes});
  LockWatch others(run_, our_tables(), lock);
  const auto start = Clock::now();
  const auto hope = std::min<milliseconds>(patience::kHopesForBetter, run_end_.remaining() / 3);
  std::string refused = "not tried, because of a long transaction";
  int grants = 0;
  for (milliseconds pause = patience::kShortestPause;;) {
    run_.check();
    renew_lease();
    // Nobody but us uses the replaced table.
    const bool hopeless = phase_ != "exchanged" && others.sees_a_long_one();
    if (!hopeless || since(start) > hope) {
      try {
        return attempt();
      } catch (const pg::Error& error) {
        refused = error.what();
        if (is(error, kTryAgain)) {
          more_keys_ *= 2;
        } else if (is_lock_trouble(error) ||
                   (is_concurrent_grant(error) && ++grants <= kMostGrants)) {
          run_.had_locked_for(lock_timeout_);
          pause =
              std::min(pause * 2, hopeless ? patience::kLongestPause * 2 : patience::kLongestPause);
        } else {
          throw;
        }
      }
    } else if (while_hopeless) {
      while_hopeless();
    }
    wait.was_refused();
    if (wait.is_given_up()) throw Paused(wait.never_granted() + "; last: " + refused);
    const milliseconds rest = hopeless ? std::min(pause, patience::kLongTransaction) : pause;
    run_.rest(random_between(rest, rest + patience::kShortestPause));
  }
}

std::string Swap::our_tables() const {
  return fmt::format("ANY ({})", fmt::format(kOurRelations, names_.oid));
}

/// A message with the rows asked and ended; the time in between is how long others may have waited
/// for us.
void Swap::timed(const std::string& sql, TransactionLimits limits) {
  double asked = 0, ended = 0;
  for (const pg::Row& row : send(sql, limits)) {
    if (row.has("asked")) asked = row.number("asked").value_or(0);
    if (row.has("ended")) ended = row.number("ended").value_or(0);
  }
  const milliseconds held(static_cast<long long>((ended - asked) * 1000 + 0.5));
  run_.had_locked_for(held);
}

// -- Messages -------------------------------------------------------------------------------------

pg::Rows Swap::send_long(const std::string& sql, pg::Deadline end) {
  return run_long(connection_, sql, {own_lock_, options_.answer_timeout, end},
                  [this, end] { run_.check(end); });
}

void Swap::tell(const std::string& phase) {
  if (phase != progress_.phase) locked_out_.reset();
  progress_.phase = phase;
  progress_.rows = copied_;
  observer_.on_progress(progress_);
}

}  // namespace

void swap_table(Run& run, const CleanupPlan& plan, std::string& successor) {
  Swap(run, successor).run(plan);
}

std::string why_a_swap_would_fail(Run& run) {
  const CleanupOptions& options = run.options();
  const TransactionLimits limits{options.lock_timeout, options.answer_timeout / 2};
  const pg::Answer answer =
      run.connection().try_run(try_create_sql(names_of(run), limits), run.soon());
  return !answer.refusal || is_lock_trouble(*answer.refusal) ? "" : answer.refusal->what();
}

bool remove_swap_leftovers(Run& run) {
  std::string twin;
  return Swap(run, twin).remove_leftovers();
}

}  // namespace django_session::sessions
