// The swap, step by step: swap_phase.hpp says in which order.
#include "cleanup/swap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "cleanup/bystanders.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/refusals.hpp"
#include "cleanup/replicas.hpp"
#include "cleanup/swap_damage.hpp"
#include "cleanup/swap_error.hpp"
#include "cleanup/swap_lock.hpp"
#include "cleanup/swap_report.hpp"
#include "cleanup/swap_run.hpp"
#include "cleanup/swap_state.hpp"
#include "core/batch_size.hpp"
#include "core/cleanup_plan.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr double kVacuumAfter = 50'000;  // drained keys
constexpr int kMostRestarts = 3;
// The exchange reads the log under its lock, and files don't shrink.
constexpr double kSmallLog = 16.0 * 1024 * 1024, kLogGrowth = 1024.0 * 1024;  // bytes
// Fewer sessions than this are not worth a transaction.
constexpr long long kSmallestCopy = 500;
// More changed sessions than this aren't brought up to date under the exclusive lock; fewer where
// they take long, say because they are large.
constexpr int kMostKeysUnderLock = 500, kFewestKeysUnderLock = 20;
// What is measured of fewer keys says little about the time that one takes.
constexpr double kEnoughKeys = 20;

constexpr const char* kWalPosition = "SELECT pg_current_wal_insert_lsn() AS lsn;";
// {} the table's OID.
constexpr const char* kIndexes = "SELECT count(*) AS indexes FROM pg_index WHERE indrelid = {};";
// {0} the shadow's OID, {1} the LSN at the beginning.
constexpr const char* kRehearsed = R"(
SELECT pg_total_relation_size({0}::regclass) AS bytes,
  pg_wal_lsn_diff(pg_current_wal_insert_lsn(), {1}) AS wal;
)";

milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
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

constexpr const char* kWithAnalyze = "(ANALYZE)";

std::string vacuum_sql(const std::string& what, const std::string& table) {
  return fmt::format("VACUUM {} {}", what, table);
}

Columns columns_of(Run& run, const SwapNames& names) {
  Columns columns;
  for (const pg::Row& row : run.ask(columns_query(names))) columns.push_back(row.text("name"));
  return columns;
}

double rows_of(const CleanupPlan& plan) {
  return plan.live_rows && plan.expired_rows ? *plan.live_rows + *plan.expired_rows
                                             : SwapRun::kUnknownRows;
}

class Swap {
 public:
  Swap(Run& run, Oid& shadow_oid) : run_(run), swap_(run, shadow_oid) {}

  void run(const CleanupPlan& plan);
  bool remove_leftovers() { return state_.remove_leftovers(); }

 private:
  void begin();
  void go_on();
  void take_step();
  void restart(const std::string& why);
  [[noreturn]] void give_up(const pg::Error& error);

  void end_rehearsal();
  std::string rehearsed() const;
  [[noreturn]] void throw_that_rehearsal_ended_early(const Paused& paused);

  void create_triggers();
  void copy();
  long long copy_chunk(long long wanted);
  void build_indexes();
  int number_of_indexes();
  void catch_up();
  void vacuum_shadow();
  void drain();
  double drain_once();
  int most_keys_under_lock() const;
  void keep_log_small();
  bool vacuum(const std::string& what, const std::string& table);
  void verify();
  void wait_for_old_snapshots();
  void refuse_what_is_new();
  void exchange();
  void try_exchange();
  void note_what_it_was();
  void drop_replaced();
  void drop_at_once_or_later();
  void wait_for_writers();

  void wait_till_calm() {
    wait_for_replicas(run_, [this] { swap_.renew_lease(); });
  }
  void show(const std::string& doing);

  Run& run_;
  SwapRun swap_;
  SwapLock lock_{swap_};
  SwapState state_{swap_, lock_};

  const SwapNames& names_ = swap_.names;
  Columns columns_;
  BatchSize drain_size_;
  double drained_ = 0;
  double log_worth_ = kSmallLog;  ///< bytes of the log from which on it is worth a collapse
  double ms_per_key_ = 0;         ///< of the last drain that was long enough to tell
  milliseconds held_{0};          ///< for so long the exclusive lock may be held
  int restarts_ = 0;
  std::optional<double> planned_bytes_, planned_wal_;
  std::string wal_begin_;  ///< the server's LSN when the swap began; for a rehearsal
};

// -- From step to step

void Swap::run(const CleanupPlan& plan) {
  swap_.rows_before = rows_of(plan);
  swap_.bytes_before = run_.target().bytes_before;
  swap_.expect_rows(plan.live_rows.value_or(0));
  planned_bytes_ = plan.bytes_after;
  planned_wal_ = plan.wal_bytes;
  const bool rehearse = run_.options().rehearse;
  try {
    begin();
    while (swap_.phase != Phase::none) go_on();
  } catch (const Paused& paused) {
    if (rehearse) throw_that_rehearsal_ended_early(paused);
    if (!state_.keep_for_next_run()) throw Paused(paused.what() + state_.tidy_up());
    throw Paused(
        fmt::format("{}; what is copied is kept, and triggers log what changes: the next run "
                    "resumes it within 8 days; --abort removes it",
                    paused.what()));
  } catch (const LeftToAnother&) {
    throw;
  } catch (const Stopped& stopped) {
    throw Stopped(stopped.what() + state_.tidy_up());
  } catch (const pg::Error& error) {
    give_up(error);
  } catch (const std::runtime_error& error) {  // a figure that can't be
    give_up(pg::Error(pg::Error::Kind::statement, error.what()));
  }
}

void Swap::begin() {
  swap_.limit_waits();
  if (const std::string gone = missing_synchronous_standby(run_); !gone.empty()) run_.note(gone);
  held_ = swap_.lock_timeout();
  if (run_.options().rehearse) wal_begin_ = run_.ask(kWalPosition).front().text("lsn");
  state_.acquire();
  if (swap_.phase != Phase::exchanged) keep_log_small();
}

void Swap::give_up(const pg::Error& error) {
  if (is_taken_over(error)) throw LeftToAnother(error.what());
  const std::string left = state_.tidy_up();
  if (error.statement_timed_out())
    throw Stopped(fmt::format("the server ended a statement while {}: {}{}", swap_.doing(),
                              error.what(), left));
  if (is_lock_trouble(error)) throw Stopped("the table is locked: " + lock_.who_holds() + left);
  if (left.empty()) throw;
  throw pg::Error(error.kind(), error.what() + left, error.sqlstate());
}

void Swap::go_on() try {
  if (columns_.empty()) columns_ = columns_of(run_, names_);
  take_step();
  swap_.phase = facts_of(swap_.phase).then;
  if (run_.options().rehearse && swap_.phase == Phase::exchanged) swap_.phase = Phase::none;
} catch (const pg::Error& error) {
  if (is_given_way(error)) return lock_.wait_for_table(error);
  if (is_gone(error) && state_.lacks_a_table())
    return restart("a table was renamed, moved or dropped");
  if (is_taken_over(error) && swap_.phase != Phase::exchanged && state_.was_lost())
    return restart("the swap's state was dropped or renamed");
  if (!is_changed(error)) throw;
  restart(error.what());
}

/// One that ends with a transaction; until then it can be tried again.
void Swap::take_step() {
  switch (swap_.phase) {
    case Phase::created:
      return create_triggers();
    case Phase::copying:
      return copy();
    case Phase::catching_up:
      return catch_up();
    case Phase::ready:
      return run_.options().rehearse ? end_rehearsal() : exchange();
    case Phase::exchanged:
      return drop_replaced();
    case Phase::none:
    case Phase::stopped:
    case Phase::unknown:
      throw std::logic_error("a swap's state has an unknown phase");
  }
}

void Swap::restart(const std::string& why) {
  if (++restarts_ > kMostRestarts) throw Stopped("the table keeps changing: " + why);
  run_.note("starting over: " + why);
  swap_.phase = Phase::stopped;  // nothing of it is drained or kept from here
  state_.remove();
  refuse_what_is_new();
  columns_.clear();
  state_.create();
}

void Swap::refuse_what_is_new() {
  const auto refusals = swap_refusals(run_);
  if (!refusals.empty())
    throw Stopped("a swap is no longer possible: " + describe(refusals.front()));
}

/// All that a swap waits for before its exchange; then what it made is removed.
void Swap::end_rehearsal() {
  show("catching up");
  drain();
  refuse_what_is_new();
  wait_for_old_snapshots();
  const std::string report = rehearsed();
  show("removing what the rehearsal made");
  state_.remove();
  std::string& stays = run_.result().message;
  stays = report + "; " + (stays.empty() ? "what it made is removed" : stays);
}

void Swap::throw_that_rehearsal_ended_early(const Paused& paused) {
  const std::string reason = paused.what(), left = state_.tidy_up();
  throw Paused(reason.substr(0, reason.find(';')) +
               (left.empty() ? "; what the rehearsal made is removed" : left));
}

/// The server's WAL is that of all sessions.
std::string Swap::rehearsed() const {
  const pg::Row measured =
      run_.ask(fmt::format(kRehearsed, swap_.shadow, run_.connection().literal(wal_begin_)))
          .front();
  const auto beside_plan = [](std::optional<double> bytes, std::optional<double> planned) {
    return fmt::format("{} (planned: {})", quantity_text(bytes, Unit::bytes),
                       quantity_text(planned, Unit::bytes));
  };
  return fmt::format(
      "rehearsed, nothing was exchanged or deleted: {} live sessions copied; the new table has {} "
      "instead of {}; {} of WAL, with that of all sessions; {}; longest lock {} ms",
      quantity_text(swap_.copied, Unit::rows),
      beside_plan(measured.number("bytes"), planned_bytes_),
      quantity_text(run_.target().bytes_before, Unit::bytes),
      beside_plan(measured.number("wal"), planned_wal_), swap_.times().text(Clock::now()),
      run_.result().longest_lock.count());
}

void Swap::show(const std::string& doing) {
  if (doing != swap_.doing()) lock_.got_further();
  swap_.show(doing);
}

// -- Copying

void Swap::create_triggers() {
  show("creating the triggers");
  lock_.with("to create the triggers", TableLock::share_row_exclusive,
             [this] { swap_.timed(create_triggers_sql(names_, swap_.on_table())); });
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
    show("copying");
    run_.rest(since(start) / 4);
    keep_log_small();
  }
  build_indexes();
}

/// The rows of this chunk: more than wanted where many expire at the same moment, which may take
/// long.
long long Swap::copy_chunk(long long wanted) {
  const CopiedChunk chunk =
      read_copied_chunk(swap_.report_long(copy_sql(names_, swap_.unhurried(), columns_, wanted)));
  swap_.copied = chunk.copied;
  swap_.log_bytes = chunk.log_bytes;
  return static_cast<long long>(chunk.rows);
}

/// While sessions are copied the log isn't drained; that each key is in it once keeps it in bounds.
void Swap::keep_log_small() {
  if (swap_.log_bytes < log_worth_) return;
  swap_.send_long(collapse_log_sql(names_, swap_.unhurried()));
  vacuum("(TRUNCATE off)", names_.log());
  log_worth_ = swap_.log_bytes + kLogGrowth;
}

int Swap::number_of_indexes() {
  const pg::Row row = run_.ask(fmt::format(kIndexes, names_.oid)).front();
  return static_cast<int>(row.number("indexes").value_or(1));
}

void Swap::build_indexes() {
  show("building indexes");
  if (swap_.log_bytes > kLogGrowth) {
    swap_.send_long(forget_changed_sql(names_, swap_.unhurried()));
    vacuum("(TRUNCATE off)", names_.shadow());
  }
  try {
    const auto message = build_indexes_sql(names_, swap_.unhurried(), columns_);
    swap_.statements_follow(number_of_indexes());
    swap_.copied = swap_.report_long(message).number("copied", pg::kAmount).value();
  } catch (const pg::Error& error) {
    if (!is_unique_violation(error)) throw;
    throw pg::Error(error.kind(), who_let_them_in(swap_), kUnsound);
  }
}

/// False where this role may not.
bool Swap::vacuum(const std::string& what, const std::string& table) {
  try {
    swap_.send_long(vacuum_sql(what, table));
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    run_.note(fmt::format("{} could not be vacuumed: {}", table, error.what()));
  }
  return run_.connection().take_warnings().empty();
}

// -- Catching up

void Swap::catch_up() {
  show("catching up");
  drain();
  show("vacuuming");
  vacuum_shadow();
  show("catching up");
  drain();
  show("comparing");
  verify();
}

/// So that visibility map and statistics are there when the clients come. A role that isn't a
/// member of the owner with INHERIT may not VACUUM, but gets ANALYZE as the owner.
void Swap::vacuum_shadow() {
  TransactionLimits asleep = swap_.quick();  // before PostgreSQL 15
  asleep.lock += std::chrono::seconds(1);
  asleep.statement += std::chrono::seconds(1);
  swap_.send(flush_statistics_sql(names_, asleep), asleep);
  swap_.statements_follow(1);
  if (!vacuum(kWithAnalyze, names_.shadow()))
    swap_.send_long(analyze_sql(names_, swap_.unhurried()));
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
  DrainedKeys drained;
  try {
    drained = read_drained_keys(swap_.report(
        drain_sql(names_, swap_.quick(), columns_, drain_size_.rows()), swap_.quick()));
  } catch (const pg::Error& error) {
    constexpr const char* kOneRowTwice = "21000";
    if (!is(error, kOneRowTwice)) throw;
    throw pg::Error(error.kind(), who_let_them_in(swap_), kUnsound);
  }
  if (drained.truncated)
    throw pg::Error(pg::Error::Kind::statement, "the table was truncated", kChanged);
  const double keys = drained.keys;
  if (keys >= kEnoughKeys || drained.ms > 50) ms_per_key_ = drained.ms / std::max(keys, 1.0);
  if (keys >= drain_size_.rows()) drain_size_.took(since(start));
  return keys;
}

void Swap::verify() try {
  const ComparedRows compared =
      read_compared_rows(swap_.report_long(verify_sql(names_, swap_.unhurried(), columns_)));
  swap_.copied = compared.copied;
  swap_.rows_before = compared.rows_before;
} catch (const pg::Error& error) {
  if (!is(error, kUnsound)) throw;
  throw pg::Error(error.kind(), fmt::format("{}; {}", error.what(), what_is_damaged(swap_)),
                  kUnsound);
}

// -- Exchanging

void Swap::exchange() {
  show("catching up");
  drain();
  refuse_what_is_new();
  wait_for_old_snapshots();
  show("exchanging");
  const auto try_it = [this] {
    drain();
    try_exchange();
  };
  // The log must not grow while we wait.
  lock_.with("to exchange the tables", TableLock::access_exclusive, try_it, [this] { drain(); });
  swap_.names.oid = swap_.shadow;  // the helpers are called after the table that has the name now
  note_what_it_was();
}

/// An old snapshot doesn't see what was copied after it; and a transaction that has written
/// something may have made a function or a view of the table's row type, which shows only after its
/// COMMIT.
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

void Swap::try_exchange() {
  try {
    swap_.timed(exchange_sql(names_, swap_.on_table(), columns_, {most_keys_under_lock(), held_}));
  } catch (const pg::Error& error) {
    if (error.statement_timed_out()) {
      run_.had_locked_for(swap_.lock_timeout() + held_);  // at most: its wait, and then its work
      // On a slow server less time than this never suffices.
      held_ = std::min<milliseconds>(2 * held_, swap_.lock_timeout() + patience::kLongestHeld);
    }
    if (!is_concurrent_grant(error)) throw;
    throw pg::Error(pg::Error::Kind::statement, error.what(), kChanged);
  }
}

/// As many as take half of the time for which the lock may be waited for; more where that is less
/// than what changes until the lock is granted.
int Swap::most_keys_under_lock() const {
  if (ms_per_key_ <= 0) return kMostKeysUnderLock;
  const double keys =
      lock_.more_keys() * static_cast<double>(swap_.lock_timeout().count()) / 2 / ms_per_key_;
  return static_cast<int>(std::clamp<double>(keys, kFewestKeysUnderLock, kMostKeysUnderLock));
}

/// From the exchange on it is so, whatever happens to the replaced table.
void Swap::note_what_it_was() {
  CleanupResult& result = run_.result();
  result.rows_deleted.reset();
  if (swap_.rows_before >= 0) result.rows_deleted = std::max(0.0, swap_.rows_before - swap_.copied);
  if (swap_.bytes_before >= 0) result.bytes_before = swap_.bytes_before;  // else it has been told
}

void Swap::drop_replaced() {
  show("dropping the replaced table");
  note_what_it_was();
  const auto longest_lock = run_.result().longest_lock;
  try {
    wait_for_writers();
    drop_at_once_or_later();
  } catch (const Paused& paused) {
    throw Stopped(replaced_is_left(paused));
  } catch (const pg::Error& error) {
    throw pg::Error(error.kind(), replaced_is_left(error), error.sqlstate());
  }
  run_.result().longest_lock = longest_lock;  // nobody else uses that table
  swap_.ours = false;
  state_.say_what_stays();
}

/// Even if max-duration is reached.
void Swap::drop_at_once_or_later() try {
  state_.remove_helpers(names_);
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement || !is_lock_trouble(error)) throw;
  lock_.with("to drop the replaced table", TableLock::of_helpers,
             [this] { state_.remove_helpers(names_); });
}

/// Nothing shows what another session makes of the replaced table's row type before it commits, and
/// the drop would break it.
void Swap::wait_for_writers() {
  const std::string mark = snapshot_mark(run_);
  const auto given_up = pg::Deadline::after(patience::kForOldSnapshots);
  while (!given_up.passed() && !run_.end().passed() && !run_.observer().stop_requested()) {
    if (!has_old_writers(run_, mark)) return;
    swap_.renew_lease();
    try {
      run_.rest(patience::kShortestPause);
    } catch (const Paused&) {
      if (run_.observer().stop_requested()) throw;  // the time is over: what is left takes no time
    }
  }
}

}  // namespace

void swap_table(Run& run, const CleanupPlan& plan, Oid& shadow_oid) {
  Swap(run, shadow_oid).run(plan);
}

std::vector<std::string> sql_of_swap(Run& run, const CleanupPlan& plan, const std::string& cutoff) {
  Oid shadow_oid;
  SwapRun swap(run, shadow_oid);
  swap.limit_waits();
  const SwapNames& names = swap.names;
  const Columns columns = columns_of(run, names);
  const SwapBeginning beginning{run.options().keep.count(), run.moment(cutoff), rows_of(plan),
                                run.target().bytes_before};
  const ExchangeLimits most{kMostKeysUnderLock, swap.lock_timeout()};
  const int changed = BatchSize().rows();
  return {
      "-- Makes state, log and new table.\n" + create_sql(names, swap.quick(), beginning),
      "-- Creates the triggers: from now on each change is logged.\n" +
          create_triggers_sql(names, swap.on_table()),
      "-- Copies the next live sessions; again, until all are copied.\n" +
          copy_sql(names, swap.unhurried(), columns, kSmallestCopy),
      "-- Copies again what changed meanwhile, and builds the indexes.\n" +
          build_indexes_sql(names, swap.unhurried(), columns),
      "-- Brings what has changed up to date; again, also before and after each of what "
      "follows.\n" +
          drain_sql(names, swap.quick(), columns, changed),
      "-- So that the new table is vacuumed and analyzed when the clients come.\n" +
          vacuum_sql(kWithAnalyze, names.shadow()) + ";\n",
      "-- Compares all live sessions.\n" + verify_sql(names, swap.unhurried(), columns),
      "-- Exchanges the tables; again, until the lock is granted.\n" +
          exchange_sql(names, swap.on_table(), columns, most),
      fmt::format("-- Drops the replaced table and all helpers, which have the new table's OID in "
                  "the place of {} since the exchange.\n",
                  names.oid) +
          remove_sql(names, swap.on_table(), Whose::ours),
  };
}

std::string why_a_swap_would_fail(Run& run) {
  const CleanupOptions& options = run.options();
  const TransactionLimits limits{options.lock_timeout, options.answer_timeout / 2};
  const pg::Answer answer =
      run.connection().try_run(try_create_sql(swap_names(run), limits), run.soon());
  return !answer.refusal || is_lock_trouble(*answer.refusal) ? "" : answer.refusal->what();
}

bool remove_swap_leftovers(Run& run) {
  Oid shadow_oid;
  return Swap(run, shadow_oid).remove_leftovers();
}

}  // namespace django_session::sessions
