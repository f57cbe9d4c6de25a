// Plan, run, abort: the pre-flight, then the method it chose, and what became of it as a result.
#include "cleanup/cleanup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "cleanup/batch_delete.hpp"
#include "cleanup/clock.hpp"
#include "cleanup/delete_access.hpp"
#include "cleanup/living_swap.hpp"
#include "cleanup/long_statement.hpp"
#include "cleanup/preflight.hpp"
#include "cleanup/reclaim.hpp"
#include "cleanup/session_query.hpp"
#include "cleanup/staying_rows.hpp"
#include "cleanup/swap.hpp"
#include "cleanup/swap_sql.hpp"
#include "cleanup/throttle.hpp"
#include "core/quantity.hpp"
#include "core/sql_name.hpp"
#include "measure/catalog_query.hpp"
#include "measure/probe.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kNoEnd{10LL * 365 * 24 * 3600 * 1000};
// A connection that is lost is made anew, for so long: a server needs that to restart. Not for
// ever: it may be us for whom the server breaks down (an index build that it has no memory for).
constexpr milliseconds kReconnectFor{60'000}, kBetweenReconnects{1000};
constexpr int kMostLosses = 5;
// A process of ours that was killed leaves a backend that goes on to the end of its statement.
constexpr milliseconds kForeignLockPatience{3000}, kBetweenLooks{200};

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
constexpr const char* kCutoff = R"(
SET LOCAL datestyle = 'ISO';
SELECT ((now() - {} * interval '1 second') AT TIME ZONE 'UTC')::text AS cutoff;
)";
// Counting goes on up to here, each in rows and all together in time.
constexpr double kCountLiveUpTo = 10e6, kCountExpiredUpTo = 100e3;
constexpr milliseconds kCountFor{5000};
// {0} the table, {1} seconds to keep, {2} and {3} how far to count.
constexpr const char* kCounts = R"(
SELECT (SELECT count(*) FROM (SELECT FROM ONLY {0} s
    WHERE s.expire_date >= now() - {1} * interval '1 second' LIMIT {2:.0f} + 1) q) AS live,
  (SELECT count(*) FROM (SELECT FROM ONLY {0} s
    WHERE s.expire_date < now() - {1} * interval '1 second' LIMIT {3:.0f} + 1) q) AS expired)";
constexpr const char* kSize = "SELECT pg_total_relation_size({}::regclass) AS bytes;";

pg::Deadline end_of(const CleanupOptions& options) {
  return pg::Deadline::after(options.max_duration.value_or(kNoEnd));
}

std::string cutoff_of(pg::Connection& connection, const CleanupOptions& options) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  return ask_catalog(connection, fmt::format(kCutoff, options.keep.count()), deadline)
      .front()
      .text("cutoff");
}

/// The primary message, unless it could quote what is in a row (class 22, data exceptions).
std::string words_of(const pg::Error& error) {
  if (error.sqlstate().starts_with("22"))
    return "a value was refused, SQLSTATE " + error.sqlstate();
  return error.what();
}

// {} ms. What the session had before our own limits, if it is no longer than that.
constexpr const char* kForeignLimit = R"(
SELECT session_user AS role, reset_val AS ms FROM pg_settings
WHERE name = 'statement_timeout' AND reset_val::int8 BETWEEN 1 AND {};
)";

/// The first statements of a transaction come before its own limits, and behind a pooler some have
/// none; then a limit of the role or of the database ends them. Empty where it wasn't that.
std::string whose_limit(pg::Connection& connection, const CleanupOptions& options) {
  constexpr int kTries = 5;  // the limit ends this question, too
  constexpr int kShort = 1000, kAny = 2147483647;
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  for (int i = 0; i < kTries; ++i) {
    try {
      connection.finish(deadline);
      const int most = is_pooled(connection, deadline) ? kAny : kShort;
      const pg::Rows rows = ask_catalog(connection, fmt::format(kForeignLimit, most), deadline);
      if (rows.empty()) return "";
      return fmt::format(
          "; role {0} has a statement_timeout of {1} ms here, which is too short: ALTER ROLE {0} "
          "SET statement_timeout = 0",
          sql_identifier(rows.front().text("role")), rows.front().text("ms"));
    } catch (const pg::Error& error) {
      if (!error.statement_timed_out()) return "";
    }
  }
  return "; does its role or the database have a statement_timeout? That would be too short";
}

/// Where the server ended a statement for its time, it says whose limit that was.
pg::Error explained(const pg::Error& error, std::optional<pg::Connection>& connection,
                    const CleanupOptions& options) {
  if (!error.statement_timed_out() || !connection || !connection->usable()) return error;
  return {error.kind(), error.what() + whose_limit(*connection, options), error.sqlstate()};
}

/// The lock may already have been in the way when the table was looked up: then it has no OID yet.
std::string lockers_of(std::optional<pg::Connection>& connection, const std::string& oid,
                       const TableName& table, pg::Deadline deadline) try {
  if (!connection) return "it isn't known by whom";
  connection->finish(deadline);
  const std::string by_name = fmt::format("ANY (SELECT c.oid FROM pg_class c WHERE c.relname = {})",
                                          connection->literal(table.table));
  return lock_holders(*connection, oid.empty() ? by_name : oid, deadline);
} catch (const pg::Error&) {
  return "it isn't known by whom";
}

struct Planned {
  Measurement measurement;
  Preflight preflight;
  CleanupPlan plan;
};

/// One call of plan_cleanup(), or the beginning of a run. Over one connection, which may be all
/// that there is: a pool of one.
class Planner {
 public:
  Planner(const pg::Parameters& parameters, const TableName& table, const CleanupOptions& options,
          std::optional<pg::Connection>& connection)
      : parameters_(parameters), table_(table), options_(options), connection_(connection) {}

  /// Finds out which table is meant, where the search_path decides, and measures it.
  Planned inspect();
  Planned plan();

 private:
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }
  Measurement measure();
  void refuse_by_the_clock(Preflight& preflight, ReadingAs who);
  void weigh_what_stays(Measurement& measurement, const CleanupTarget& target, ReadingAs who);
  void count_what_stays(Measurement& measurement, const CleanupTarget& target, ReadingAs who);
  GivingBack giving_back(const CleanupTarget& target);
  bool another_has_begun(const CleanupTarget& target);
  void try_the_swap(Planned& planned, Circumstances& circumstances);
  void try_the_delete(Planned& planned, Circumstances& circumstances, bool pooled);

  const pg::Parameters& parameters_;
  const TableName& table_;
  const CleanupOptions& options_;
  std::optional<pg::Connection>& connection_;
};

Measurement Planner::measure() {
  Probe probe(parameters_, table_, Counting::estimate);
  probe.use(std::move(*connection_));
  try {
    const Measurement measurement = probe.measure(soon());
    connection_ = probe.give_back();
    connection_->finish(soon());
    return measurement;
  } catch (...) {
    connection_ = probe.give_back();
    throw;
  }
}

Planned Planner::inspect() {
  const Measurement measurement = measure();
  return {measurement, look(*connection_, {measurement.schema, measurement.table}, soon()), {}};
}

void Planner::refuse_by_the_clock(Preflight& preflight, ReadingAs who) {
  auto doubt = doubt_about_the_clock(*connection_, options_.max_clock_skew, soon());
  if (!doubt)
    doubt = doubt_by_new_sessions(*connection_, preflight.target, who, options_.max_clock_skew);
  if (!doubt) return;
  for (const Method method : {Method::full, Method::swap, Method::remove})
    preflight.refusals.insert(preflight.refusals.begin(), {method, "the server's clock", *doubt});
}

/// As long as that is cheaper than the copy that follows; else the estimates stay, as of the moment
/// before which what has expired is deleted.
void Planner::count_what_stays(Measurement& measurement, const CleanupTarget& target,
                               ReadingAs who) {
  if (options_.keep.count() > 0) {
    measurement.now -= static_cast<double>(options_.keep.count());
    measurement.counted_live.reset();
    measurement.counted_expired.reset();
    measurement.least_expired = 0;
  }
  const std::string query = fmt::format(kCounts, target.sql_name, options_.keep.count(),
                                        kCountLiveUpTo, kCountExpiredUpTo);
  const auto limit = pg::Deadline::after(std::min(kCountFor, options_.answer_timeout / 2));
  const auto row = ask_sessions(*connection_, target, who, {"live", "expired"}, query, limit);
  if (!row) return;
  const double live = *row->number("live"), expired = *row->number("expired");
  measurement.counted_live.reset();
  measurement.counted_expired.reset();
  if (live <= kCountLiveUpTo) measurement.counted_live = live;
  if (expired <= kCountExpiredUpTo) measurement.counted_expired = expired;
}

void Planner::weigh_what_stays(Measurement& measurement, const CleanupTarget& target,
                               ReadingAs who) {
  const auto limit = pg::Deadline::after(std::min(kCountFor, options_.answer_timeout / 2));
  measurement.staying =
      look_at_what_stays(*connection_, {target, who, options_.keep}, measurement, limit);
}

GivingBack Planner::giving_back(const CleanupTarget& target) {
  const ReclaimRights rights = reclaim_rights(*connection_, target.oid, soon());
  return {rights.vacuum, rights.reindex, why_nothing_is_reclaimed(rights, target)};
}

/// Of a swap whose copy is still there, and was made for the same --keep.
std::optional<double> interrupted_swap_age(const Preflight& preflight,
                                           const CleanupOptions& options) {
  const auto& objects = preflight.leftovers.objects;
  const auto is_copy = [&](const std::string& object) {
    return object.ends_with(fmt::format("djs_{}_new", preflight.target.oid)) ||
           object.ends_with(fmt::format("djs_{}_old", preflight.target.oid));
  };
  const bool same_keep =
      preflight.leftovers.keep.value_or(-1) == static_cast<double>(options.keep.count());
  if (!preflight.leftovers.state || !same_keep ||
      std::none_of(objects.begin(), objects.end(), is_copy))
    return std::nullopt;
  return preflight.leftovers.age.value_or(0);
}

/// Since we looked: what another run makes has the names that ours would have. Who claims the table
/// later finds that run, and says so.
bool Planner::another_has_begun(const CleanupTarget& target) {
  const std::string query = leftovers_query(target.oid);
  return read_leftovers(ask_catalog(*connection_, query, soon()).front()).any();
}

/// What the catalogue doesn't say: a right that nobody thought of, something that can't be
/// reproduced.
void Planner::try_the_swap(Planned& planned, Circumstances& circumstances) {
  Preflight& preflight = planned.preflight;
  const std::string why = why_a_swap_would_fail(*connection_, preflight.target, options_);
  if (why.empty() || another_has_begun(preflight.target)) return;
  preflight.refusals.push_back({Method::swap, "its new table", "can't be made: " + why});
  circumstances.refusals = preflight.refusals;
  planned.plan = plan_from(circumstances, options_);
}

/// Where a trigger runs under another search_path than it has at the site's DELETEs. Behind a
/// pooler the deleting role's trial could take the turn of a cleanup that is under way.
void Planner::try_the_delete(Planned& planned, Circumstances& circumstances, bool pooled) {
  Preflight& preflight = planned.preflight;
  const DeleteAccess access = delete_access(*connection_, preflight.target.oid, soon());
  const auto is_contained = [](const auto& trigger) { return trigger.is_contained; };
  if (!access.obstacles.empty() || access.triggers.empty() ||
      (pooled && access.way == DeleteAccess::Way::function) ||
      !std::all_of(access.triggers.begin(), access.triggers.end(), is_contained))
    return;
  const std::string why = why_a_delete_would_fail(*connection_, preflight.target, access, options_,
                                                  cutoff_of(*connection_, options_));
  if (why.empty()) return;
  for (const Method method : {Method::remove, Method::full})
    preflight.refusals.push_back({method, "a DELETE", "of an expired session fails: " + why});
  circumstances.refusals = preflight.refusals;
  planned.plan = plan_from(circumstances, options_);
}

Planned Planner::plan() {
  Planned planned = inspect();
  Preflight& preflight = planned.preflight;
  const CleanupTarget& target = preflight.target;
  const bool pooled = is_pooled(*connection_, soon());
  if (pooled)
    preflight.refusals.push_back({Method::full, "the connection",
                                  "goes through a pooler; VACUUM FULL needs a direct connection"});
  const ReadingAs who = who_may_read(*connection_, target, soon());
  refuse_by_the_clock(preflight, who);
  count_what_stays(planned.measurement, target, who);
  weigh_what_stays(planned.measurement, target, who);
  Circumstances circumstances;
  circumstances.values = evaluate(planned.measurement).values;
  circumstances.afresh = sizes_afresh(planned.measurement);
  circumstances.refusals = preflight.refusals;
  circumstances.notes = preflight.notes;
  if (preflight.leftovers.any())
    circumstances.notes.push_back("there is " + describe_leftovers(preflight.leftovers));
  circumstances.room = preflight.room;
  circumstances.sorting = preflight.sorting;
  circumstances.giving_back = giving_back(target);
  circumstances.standbys = preflight.standbys;
  circumstances.interrupted_swap_age = interrupted_swap_age(preflight, options_);
  planned.plan = plan_from(circumstances, options_);
  const bool nothing_is_left = !preflight.leftovers.any() && preflight.leftovers.orphans.empty();
  if (planned.plan.method == Method::swap && !planned.plan.refused && nothing_is_left)
    try_the_swap(planned, circumstances);
  if (planned.plan.method != Method::swap && !planned.plan.refused)
    try_the_delete(planned, circumstances, pooled);
  return planned;
}

/// One call of run_cleanup() or abort_cleanup().
class Run {
 public:
  Run(const pg::Parameters& parameters, const TableName& table, const CleanupOptions& options,
      CleanupObserver& observer)
      : parameters_(parameters),
        connector_(parameters),
        table_(table),
        options_(options),
        observer_(observer),
        run_end_(end_of(options)) {
    result_.method = options.method;
  }

  CleanupResult clean_up();
  CleanupResult abort();

 private:
  template <typename Steps>
  CleanupResult guarded(Steps steps);
  void connect();
  void reconnect(const std::string& loss);
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  void let_the_server_notice_our_end();
  void claim(pg::Deadline patience);
  bool try_to_claim(const char* scope);
  void look_again();
  void carry_out();
  void clear_the_way();
  void run_method();
  bool is_swapped() const;
  bool may_delete_instead(const pg::Error& error) const;
  void delete_instead(const pg::Error& error);
  void trust_the_clock();
  std::string cutoff();
  DeleteOrder delete_order();
  void say_what_was_left(const Undeleted& left);
  void measure_after();
  std::string lockers();
  std::string summary() const;

  const pg::Parameters& parameters_;
  pg::Connector connector_;
  const TableName& table_;
  const CleanupOptions& options_;
  CleanupObserver& observer_;
  const pg::Deadline run_end_;
  const std::string run_id_ = new_run_id();
  const Clock::time_point start_ = Clock::now();

  std::optional<pg::Connection> connection_;
  Planned planned_;
  std::string successor_;  ///< OID of the table that a swap will put into place
  bool began_ = false;     ///< changes have been made
  bool silent_ = false;    ///< nothing is heard of the server
  std::string cutoff_;
  std::string unsound_;  ///< why the swap that was chosen failed, and sessions are deleted instead
  CleanupResult result_;
};

template <typename Steps>
CleanupResult Run::guarded(Steps steps) {
  const auto ends = [this](Outcome outcome, const std::string& message) {
    result_.outcome = outcome;
    result_.message = message;
  };
  try {
    steps();
  } catch (const LeftToAnother& left) {
    ends(Outcome::stopped, left.what());
    result_.left_to_another = true;
  } catch (const Stopped& stopped) {
    ends(Outcome::stopped, stopped.what());
  } catch (const NoSuchTable& missing) {
    ends(Outcome::refused, missing.what());
  } catch (const pg::Error& error) {
    silent_ = error.kind() == pg::Error::Kind::timeout;
    if (error.lock_not_available())
      ends(Outcome::stopped, "the table is locked: " + lockers());
    else
      ends(Outcome::failed, words_of(explained(error, connection_, options_)));
  } catch (const std::exception& error) {
    ends(Outcome::failed, error.what());
  }
  measure_after();
  result_.duration = std::chrono::duration_cast<milliseconds>(Clock::now() - start_);
  return result_;
}

void Run::connect() {
  if (observer_.stop_requested()) throw Stopped("interrupted; run it again to continue");
  connection_.emplace(connector_.connect(soon()));
}

CleanupResult Run::clean_up() {
  guarded([this] {
    connect();
    planned_ = Planner(parameters_, table_, options_, connection_).plan();
    const CleanupPlan& plan = planned_.plan;
    result_.method = plan.method;
    result_.bytes_before = planned_.preflight.target.bytes_before;
    if (plan.refused) {
      result_.outcome = Outcome::refused;
      result_.message = plan.reason;
      return;
    }
    observer_.on_note(fmt::format("{}: {}", method_name(plan.method), plan.reason));
    for (const std::string& note : plan.notes) observer_.on_note(note);
    claim(pg::Deadline::after(kForeignLockPatience));
    clear_the_way();
    carry_out();
  });
  if (result_.outcome == Outcome::done)
    result_.message = summary() + (result_.message.empty() ? "" : "; " + result_.message);
  return result_;
}

CleanupResult Run::abort() {
  return guarded([this] {
    connect();
    planned_ = Planner(parameters_, table_, options_, connection_).inspect();
    const CleanupTarget& target = planned_.preflight.target;
    result_.bytes_before = target.bytes_before;
    const bool swap = remove_swap_leftovers(*connection_, target, options_, run_id_, run_end_,
                                            observer_, result_);
    const int indexes = remove_reindex_leftovers(*connection_, target, options_, observer_);
    result_.message = swap || indexes > 0 ? "removed what an interrupted cleanup had left"
                                          : "no interrupted cleanup has left anything";
  });
}

void Run::let_the_server_notice_our_end() try {
  ask_catalog(*connection_, kNoticeOurEnd, soon());
} catch (const pg::Error& error) {  // not every platform can
  if (error.kind() != pg::Error::Kind::statement) throw;
}

/// For the session. Behind a pooler that lock would stay with a backend that others use: there, one
/// look; then each batch of a deletion takes it for itself, and a swap has its state's row.
void Run::claim(pg::Deadline patience) {
  const bool pooled = is_pooled(*connection_, soon());
  if (!pooled) let_the_server_notice_our_end();
  const char* const scope = pooled ? "_xact" : "";
  while (!try_to_claim(scope)) {
    if (patience.passed())
      throw LeftToAnother("another cleanup of this table is under way: its lock is held by " +
                          cleanup_lock_holder(*connection_, planned_.preflight.target.oid, soon()));
    pause_for(kBetweenLooks, run_end_, observer_);
    look_again();
  }
}

bool Run::try_to_claim(const char* scope) {
  const std::string query = fmt::format(kClaim, scope, cleanup_lock(planned_.preflight.target.oid));
  return ask_catalog(*connection_, query, soon()).front().flag("claimed");
}

void Run::look_again() {
  const CleanupTarget before = planned_.preflight.target;
  planned_.preflight = look(*connection_, {before.schema, before.table}, soon());
  const std::string& now = planned_.preflight.target.oid;
  if (now == before.oid || now == successor_) return;
  if (began_) throw Stopped("the table was replaced meanwhile");
  throw LeftToAnother("another cleanup of this table has just ended");
}

/// A swap that was interrupted is in the way of the other methods: its triggers would note rows
/// that they delete. Whoever may only delete has to live with that.
void Run::clear_the_way() {
  const Leftovers& leftovers = planned_.preflight.leftovers;
  const bool none = !leftovers.any() && leftovers.orphans.empty();
  if (planned_.plan.method == Method::swap || none) return;
  const CleanupTarget& target = planned_.preflight.target;
  try {
    remove_swap_leftovers(*connection_, target, options_, run_id_, run_end_, observer_, result_);
  } catch (const pg::Error& error) {
    if (!error.insufficient_privilege()) throw;
    connection_->finish(soon());
    observer_.on_note(fmt::format("an interrupted swap left {}: remove it with --abort as {}",
                                  fmt::join(planned_.preflight.leftovers.objects, ", "),
                                  target.owner));
  }
}

/// After a lost connection everything goes on where it was: what is in the database decides. Not so
/// where nothing is heard of the server: that costs one time limit, not many.
void Run::carry_out() {
  began_ = true;
  result_.rows_deleted = 0;
  std::string loss;
  for (int losses = 0;; reconnect(loss)) {
    try {
      return run_method();
    } catch (const pg::Error& error) {
      const bool lost = error.kind() == pg::Error::Kind::connection;
      if (!lost || ++losses > kMostLosses || planned_.plan.method == Method::full) throw;
      loss = words_of(error);
      observer_.on_note(loss + "; connecting again");
    }
  }
}

/// `loss`: how the connection was lost, and what stays if it doesn't come back.
void Run::reconnect(const std::string& loss) try {
  const auto patience = pg::Deadline::after(kReconnectFor);
  for (;;) {
    pause_for(kBetweenReconnects, run_end_, observer_);
    try {
      connect();
      look_again();
      return claim(patience);  // the lost connection's backend may have it still
    } catch (const pg::Error& error) {
      if (patience.passed() || error.kind() == pg::Error::Kind::timeout) throw;
    }
  }
} catch (const LeftToAnother&) {
  throw;
} catch (const Stopped& stopped) {
  throw Stopped(fmt::format("{}; before that: {}", stopped.what(), loss));
} catch (const pg::Error& error) {
  throw pg::Error(
      error.kind(),
      fmt::format("connecting again failed: {}; before that: {}", words_of(error), loss),
      error.sqlstate());
}

std::string Run::cutoff() {
  if (cutoff_.empty()) cutoff_ = cutoff_of(*connection_, options_);
  return cutoff_;
}

/// After a lost connection: the new table has the name, and nothing is left to do.
bool Run::is_swapped() const {
  return planned_.preflight.target.oid == successor_ && !planned_.preflight.leftovers.any();
}

/// Again, since claiming the table may have taken a while: what is deleted, and what isn't copied,
/// is decided once, at the beginning of the work. A clock that is set later doesn't matter any
/// more.
void Run::trust_the_clock() {
  if (!cutoff_.empty()) return;
  if (const auto doubt = doubt_about_the_clock(*connection_, options_.max_clock_skew, soon()))
    throw Stopped("the server's clock " + *doubt);
  cutoff();
}

void Run::run_method() {
  const CleanupTarget& target = planned_.preflight.target;
  trust_the_clock();
  if (planned_.plan.method == Method::swap) {
    if (is_swapped()) {
      if (result_.rows_deleted == 0.0) result_.rows_deleted = planned_.plan.expired_rows;
      return;
    }
    try {
      return swap_table(*connection_, target, options_, run_id_, planned_.plan, run_end_, observer_,
                        result_, successor_);
    } catch (const pg::Error& error) {
      if (!may_delete_instead(error)) throw;
      delete_instead(error);
    }
  }
  remove_reindex_leftovers(*connection_, target, options_, observer_);
  const DeleteAccess access = delete_access(*connection_, target.oid, soon());
  const Undeleted left = delete_expired(*connection_, target, access, options_, delete_order(),
                                        run_end_, observer_, result_);
  if (const std::string text = left.text(); !text.empty()) observer_.on_note(text);
  const auto look = [&] { stop_if_a_swap_lives(*connection_, target, access, options_); };
  if (planned_.plan.method == Method::full)
    vacuum_full(*connection_, target, options_, run_end_, observer_, result_, look);
  else
    reclaim_after_delete(*connection_, target, options_, run_end_, observer_, result_, look);
  say_what_was_left(left);
  if (!unsound_.empty())
    throw std::runtime_error(fmt::format("{}; {} expired sessions were deleted instead", unsound_,
                                         quantity_text(result_.rows_deleted, Unit::rows)));
}

/// Of auto, which would else choose the same swap again and again: what is damaged among the live
/// sessions, or in an index, keeps nobody from deleting the expired ones.
bool Run::may_delete_instead(const pg::Error& error) const {
  constexpr const char *kDataCorrupted = "XX001", *kIndexCorrupted = "XX002";
  const auto& refusals = planned_.plan.refusals;
  const bool unsound = error.sqlstate() == kUnsound || error.sqlstate() == kDataCorrupted ||
                       error.sqlstate() == kIndexCorrupted;
  return unsound && options_.method == Method::automatic &&
         std::none_of(refusals.begin(), refusals.end(),
                      [](const Refusal& refusal) { return refusal.method == Method::remove; });
}

void Run::delete_instead(const pg::Error& error) {
  unsound_ = words_of(error);
  observer_.on_note(unsound_ + "; deleting instead");
  planned_.plan.method = result_.method = Method::remove;
  connection_->finish(soon());
  look_again();
  clear_the_way();
  result_.rows_deleted = 0;
}

DeleteOrder Run::delete_order() {
  const CleanupPlan& plan = planned_.plan;
  DeleteOrder order{cutoff(), plan.expired_rows, std::nullopt};
  const double rows = plan.live_rows.value_or(0) + plan.expired_rows.value_or(0);
  if (rows > 0) order.bytes_per_row = planned_.preflight.target.bytes_before / rows;
  return order;
}

/// Some that others hold are left to the next run; where it is more than that, this one hasn't done
/// what it was for.
void Run::say_what_was_left(const Undeleted& left) {
  const std::string text = left.text();
  if (text.empty()) return;
  if (!left.few(result_.rows_deleted.value_or(0)))
    throw Stopped(
        fmt::format("{} deleted, but {}", quantity_text(result_.rows_deleted, Unit::rows), text));
  result_.message = text + (result_.message.empty() ? "" : "; " + result_.message);
}

/// By name: after a swap another table has it. Unknown where nobody answers any more, and where
/// somebody waits for our end.
void Run::measure_after() {
  if (planned_.preflight.target.sql_name.empty() || silent_ || observer_.stop_requested()) return;
  try {
    if (!connection_ || !connection_->usable()) connect();
    connection_->finish(soon());
    const std::string name = connection_->literal(planned_.preflight.target.sql_name);
    result_.bytes_after =
        ask_catalog(*connection_, fmt::format(kSize, name), soon()).front().number("bytes");
  } catch (const std::exception&) {
    return;
  }
}

std::string Run::lockers() {
  if (observer_.stop_requested()) return "it wasn't asked by whom";
  return lockers_of(connection_, planned_.preflight.target.oid, table_, soon());
}

std::string Run::summary() const {
  return fmt::format(
      "{}: {} expired sessions deleted{} in {}; longest lock {} ms", method_name(result_.method),
      rows_deleted_text(result_), sizes_text(result_, ", "),
      format_quantity(static_cast<double>(result_.duration.count()) / 1000, Unit::seconds),
      result_.longest_lock.count());
}

}  // namespace

CleanupPlan plan_cleanup(const pg::Parameters& parameters, const TableName& table,
                         const CleanupOptions& options) {
  pg::Connector connector(parameters);
  std::optional connection = connector.connect(pg::Deadline::after(options.answer_timeout));
  try {
    return Planner(parameters, table, options, connection).plan().plan;
  } catch (const pg::Error& error) {
    if (!error.lock_not_available()) throw explained(error, connection, options);
    throw Stopped("the table is locked: " +
                  lockers_of(connection, "", table, pg::Deadline::after(options.answer_timeout)));
  }
}

CleanupResult run_cleanup(const pg::Parameters& parameters, const TableName& table,
                          const CleanupOptions& options, CleanupObserver& observer) {
  return Run(parameters, table, options, observer).clean_up();
}

CleanupResult abort_cleanup(const pg::Parameters& parameters, const TableName& table,
                            const CleanupOptions& options, CleanupObserver& observer) {
  return Run(parameters, table, options, observer).abort();
}

}  // namespace django_session::sessions
