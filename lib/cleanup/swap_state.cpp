// The state's row and its lease, and all that has to be removed.
#include "cleanup/swap_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "cleanup/as_owner.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/swap_error.hpp"
#include "core/cleanup_plan.hpp"
#include "core/sql_name.hpp"
#include "measure/more_rights.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

// An interrupted run is not resumed beyond these: starting over is quicker, or safer.
constexpr double kLongestLog = 1024.0 * 1024 * 1024;  // bytes

// Ends of messages: what stays where even the removal gets no lock or no answer.
constexpr const char* kHelpersAreLeft =
    "; what the swap made remains, and its triggers keep logging which sessions change: the next "
    "run resumes or removes it, --abort removes it";
constexpr const char* kDisabledAreLeft =
    "; the swap's triggers remain, disabled: the next run, or --abort, removes them";
constexpr const char* kTablesAreLeft =
    "; tables of the swap remain: the next run, or --abort, removes them";
constexpr const char* kSomeMayBeLeft =
    "; if anything of a swap is left, the next run resumes or removes it, --abort removes it";

// {0} the table's OID, {1} kSetRole.
constexpr const char* kMayRemove = R"(
SELECT session_user AS role, pg_has_role(c.relowner, {1}) AS allowed
FROM pg_class c WHERE c.oid = {0};
)";

// {0} names as strings.
constexpr const char* kLacking =
    "SELECT count(to_regclass(name)) < count(*) AS lacking FROM unnest(ARRAY[{0}]) AS name;";

// {0} the table's OID, {1} the shadow's. All as of one moment, so that a cleanup that removes
// everything isn't seen half done.
constexpr const char* kIsLost = R"(
SELECT EXISTS (
  SELECT FROM pg_class t WHERE t.oid = {0} AND t.relname !~ '^djs_[0-9]+_old$'
    AND NOT EXISTS (SELECT FROM pg_class s
      WHERE s.relnamespace = t.relnamespace AND s.relname = 'djs_{0}_state')
    AND (EXISTS (SELECT FROM pg_class c WHERE c.oid = {1} AND c.relname = 'djs_{0}_new')
      OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = {0} AND NOT g.tgisinternal
        AND g.tgname ~ '^djs_{0}_(changed|deleted|truncated)$'))) AS lost;
)";

constexpr const char* kDuplicateTable = "42P07";

}  // namespace

std::string replaced_is_left(const std::exception& reason) {
  return fmt::format(
      "{}; the tables are exchanged, but the replaced one is still there: the next run, or "
      "--abort, drops it",
      reason.what());
}

// -- An interrupted swap, and a new one

void SwapState::acquire() {
  const Leftovers leftovers = find_leftovers();
  if (swap_.run.options().rehearse) leave_it_to_its_run(leftovers);
  remove_orphans(leftovers);
  if (leftovers.state) {
    take_over(read());
    swap_.log_bytes = leftovers.log_bytes;
    if (swap_.phase == Phase::exchanged || can_go_on(read())) {
      swap_.run.note(
          fmt::format("resuming an interrupted swap, which was {}", facts_of(swap_.phase).name));
      return;
    }
  }
  if (leftovers.any()) {
    swap_.run.note("removing " + describe_leftovers(leftovers, "an interrupted swap"));
    remove();
  }
  create();
}

/// But after a lost connection it is our own.
void SwapState::leave_it_to_its_run(const Leftovers& leftovers) {
  if (leftovers.state && read().run_id == swap_.names.run_id) return;
  if (leftovers.any()) throw Stopped("an interrupted swap has just been left here");
}

bool SwapState::lacks_a_table() {
  if (swap_.phase == Phase::exchanged) return false;
  const SwapNames& names = swap_.names;
  std::vector<std::string> literals;
  for (const std::string& name : {names.table, names.state(), names.log(), names.shadow()})
    literals.push_back(sql_string(name));
  return swap_.run.ask(fmt::format(kLacking, fmt::join(literals, ", "))).front().flag("lacking");
}

SwapStateRow SwapState::read() {
  const pg::Row row = swap_.report(read_state_sql(swap_.names, swap_.quick()), swap_.quick());
  try {
    return read_swap_state(row);
  } catch (const std::runtime_error&) {  // its columns or their values were altered
    throw pg::Error(pg::Error::Kind::statement,
                    "the state of the swap is damaged; --abort removes it");
  }
}

/// A run that is alive renews its lease with every transaction, and each of those is shorter than
/// the lease unless it holds the row, or is a VACUUM or ANALYZE; one whose backend is gone is dead.
/// Twice, since it may be between two of those. To be wrong would do no harm: a run that was taken
/// over finds out before it does anything further.
void SwapState::wait_for_lease(SwapStateRow& row) {
  const double first_seen = row.lease + row.age;
  const auto given_up = pg::Deadline::after(patience::kForForeignVacuum);
  for (bool lived = true; row.run_id != swap_.names.run_id && (lived || row.lives());) {
    lived = row.lives();
    if (row.lease + row.age > first_seen + 1 || (row.is_vacuumed && given_up.passed()))
      throw LeftToAnother("another cleanup of this table is running");
    swap_.run.rest(patience::kShortestPause * 3);
    row = read();
  }
}

/// What another run has compared may have lain here for days, where the owner's jobs can write: it is
/// compared again.
Phase SwapState::phase_to_go_on_from(const SwapStateRow& row) const {
  const bool compared_by_another = row.phase == Phase::ready && row.run_id != swap_.names.run_id;
  return compared_by_another ? Phase::catching_up : row.phase;
}

void SwapState::take_over(SwapStateRow row) {
  wait_for_lease(row);
  try {
    const std::string message = take_over_sql(swap_.names, swap_.quick(), row.run_id);
    if (!swap_.report(message, swap_.quick()).flag("taken"))
      throw LeftToAnother("another cleanup of this table has just begun");
  } catch (const pg::Error& error) {
    if (!is_lock_trouble(error)) throw;
    throw LeftToAnother("another cleanup of this table is running");
  }
  swap_.ours = true;
  swap_.phase = phase_to_go_on_from(row);
  swap_.disabled = row.phase == Phase::stopped;
  swap_.shadow = row.shadow;
  swap_.copied = row.copied;
  // Another run that deleted meanwhile counts that as its own.
  if (swap_.phase == Phase::exchanged || swap_.rows_before < 0) swap_.rows_before = row.rows_before;
  swap_.bytes_before = row.bytes_before;
}

bool SwapState::can_go_on(const SwapStateRow& row) const {
  return row.intact && facts_of(row.phase).resumes && row.age < kOldestSwapToResume &&
         swap_.log_bytes < kLongestLog &&
         row.keep_seconds == static_cast<double>(swap_.run.options().keep.count());
}

void SwapState::create() {
  swap_.show("creating the new table");
  const SwapBeginning beginning{swap_.run.options().keep.count(),
                                swap_.run.moment(swap_.run.cutoff()), swap_.rows_before,
                                swap_.bytes_before};
  try {
    swap_.send(create_sql(swap_.names, swap_.quick(), beginning), swap_.quick());
  } catch (const pg::Error& error) {
    if (is(error, kDuplicateTable) || is_unique_violation(error)) explain_who_has_the_names();
    if (is(error, kChanged)) throw Stopped("the table has just been replaced");
    throw;
  }
  swap_.ours = true;
  lost_ = swap_.disabled = false;
  swap_.copied = swap_.log_bytes = 0;
  const SwapStateRow row = read();
  swap_.phase = row.phase;
  swap_.shadow = row.shadow;
}

/// Another session was quicker, after we looked.
void SwapState::explain_who_has_the_names() {
  for (const pg::Row& row : swap_.run.ask(taken_names_query(swap_.names.oid) + ";"))
    throw pg::Error(pg::Error::Kind::statement, row.text("object") + " " + row.text("reason"),
                    kNameTaken);
  throw LeftToAnother("another cleanup of this table has just begun");
}

// -- Removing

Leftovers SwapState::find_leftovers() {
  return read_leftovers(swap_.run.ask(leftovers_query(swap_.names.oid)).front());
}

/// Helpers of a table that was dropped, or, after a restore from a dump, of one that had another
/// OID: then their triggers are on the table of now.
void SwapState::remove_orphans(const Leftovers& leftovers) {
  for (const Oid oid : leftovers.orphans) {
    SwapNames names = swap_.names;
    names.oid = oid;
    swap_.run.note(
        fmt::format("removing the helpers djs_{}_* of a table that no longer exists", oid));
    remove(names, Whose::anybodys);
  }
}

bool SwapState::was_lost() {
  lost_ = swap_.run.ask(fmt::format(kIsLost, swap_.names.oid, swap_.shadow)).front().flag("lost");
  if (lost_) swap_.ours = false;
  return lost_;
}

Whose SwapState::whose() const {
  if (swap_.ours) return Whose::ours;
  return lost_ ? Whose::nobodys : Whose::anybodys;
}

std::size_t SwapState::remove() {
  remove(swap_.names, whose());
  swap_.ours = false;
  for (const pg::Row& row : swap_.run.ask(left_behind_query(swap_.names.oid)))
    swap_.run.note(fmt::format("{} is left alone: {} may not drop it", row.text("object"),
                               swap_.run.target().owner));
  return say_what_stays();
}

/// The triggers first, since they slow down the site and make the log grow.
void SwapState::remove(const SwapNames& names, Whose state) {
  if (!triggered_tables(names).empty())
    lock_.with("to remove the triggers", TableLock::access_exclusive, [&] {
      swap_.timed(remove_triggers_sql(names, swap_.on_table(), state, triggered_tables(names)));
    });
  lock_.with("to remove what is left of a swap", TableLock::of_helpers,
             [&] { remove_helpers(names, state); });
}

/// To remove the files of a large table takes its time.
void SwapState::remove_helpers(const SwapNames& names, Whose state) {
  swap_.send_long(remove_sql(names, swap_.on_table(), state),
                  pg::Deadline::after(patience::kLongestStatement));
  if (report_of(swap_.run.connection()).has("locked"))
    throw pg::Error(pg::Error::Kind::statement, "another session has locked a table of the swap",
                    pg::Error::kLockNotAvailable);
}

/// Because something depends on it.
std::vector<std::string> SwapState::what_stays() {
  std::vector<std::string> texts;
  for (const pg::Row& row : swap_.run.ask(what_stays_query(swap_.names.oid)))
    texts.push_back(describe_what_stays(row));
  return texts;
}

std::size_t SwapState::say_what_stays() {
  const std::vector<std::string> texts = what_stays();
  swap_.run.result().message = fmt::format("{}", fmt::join(texts, "; "));
  return texts.size();
}

std::vector<std::string> SwapState::triggered_tables(const SwapNames& names) {
  std::vector<std::string> tables;
  for (const pg::Row& row : swap_.run.ask(triggered_tables_query(names)))
    tables.push_back(row.text("name"));
  return tables;
}

/// A state that can no longer be read or written, whatever was done to it, is nobody's.
void SwapState::take_over_to_remove() try { take_over(read()); } catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement || is_taken_over(error) || is_lock_trouble(error))
    throw;
  swap_.run.note(fmt::format("the state of the swap can't be used: {}", error.what()));
}

/// Empty where this role may.
std::string SwapState::why_not_removed() {
  const pg::Row row = swap_.run.ask(fmt::format(kMayRemove, swap_.names.oid, kSetRole)).front();
  if (row.flag("allowed")) return "";
  return fmt::format(
      "role {} may not remove what an interrupted swap left: run django_session_cleanup --abort as "
      "{}",
      row.text("role"), swap_.run.target().owner);
}

bool SwapState::remove_leftovers() try {
  swap_.limit_waits();
  const Leftovers leftovers = find_leftovers();
  const std::size_t kept = what_stays().size();
  const bool any = leftovers.any() || !leftovers.orphans.empty();
  if (!any && kept == 0) return false;
  if (const std::string why_not = why_not_removed(); !why_not.empty()) {
    if (any)
      throw pg::Error(pg::Error::Kind::statement, why_not, pg::Error::kInsufficientPrivilege);
    say_what_stays();
    return false;
  }
  remove_orphans(leftovers);
  if (leftovers.state) take_over_to_remove();
  if (leftovers.any())
    swap_.run.note("removing " + describe_leftovers(leftovers, "an interrupted swap"));
  const std::size_t still_kept = remove();
  return any || still_kept < kept;
} catch (const Paused&) {
  end_lease();
  throw;
} catch (const pg::Error& error) {
  if (!is_taken_over(error)) throw;
  throw LeftToAnother(error.what());
}

/// So that what this run does instead doesn't take it for another one.
void SwapState::end_lease() try {
  if (swap_.ours && swap_.run.is_connected())
    swap_.send(end_lease_sql(swap_.names, swap_.quick()), swap_.quick());
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
}

// -- Giving up

bool SwapState::keep_for_next_run() const {
  return swap_.ours && swap_.copied > 0 && facts_of(swap_.phase).keeps;
}

std::vector<std::string> SwapState::tables_with_triggers_now() try {
  return triggered_tables(swap_.names);
} catch (const pg::Error&) {
  return {swap_.names.table};
}

std::string SwapState::tidy_up() {
  // Where no answer came to the message that makes the state, or takes it over, both may be true.
  if (!swap_.ours && !lost_) return swap_.run.is_connected() ? "" : kSomeMayBeLeft;
  const auto deadline = pg::Deadline::after(
      std::min<milliseconds>(patience::kTidyUp, swap_.run.options().answer_timeout));
  const auto works = [&](const std::string& message) {
    if (!swap_.run.is_connected()) return false;
    try {
      swap_.run.send(message, deadline);
      return true;
    } catch (const pg::Error&) {
      return false;
    }
  };
  if (swap_.phase == Phase::exchanged) {
    works(reported_sql(swap_.names, swap_.quick()));
    return "";
  }
  if (!swap_.run.is_connected()) return what_is_left();
  const auto tables = tables_with_triggers_now();
  if (tables.empty() || works(remove_triggers_sql(swap_.names, swap_.on_table(), whose(), tables)))
    works(remove_sql(swap_.names, swap_.on_table(), whose()));
  else
    works(disable_sql(swap_.names, swap_.on_table()));
  return what_is_left();
}

std::string SwapState::what_is_left() try {
  if (!swap_.run.is_connected()) return swap_.disabled ? kDisabledAreLeft : kHelpersAreLeft;
  const Leftovers leftovers = find_leftovers();
  if (!leftovers.any()) return "";
  if (leftovers.logging) return kHelpersAreLeft;
  const bool triggers = std::any_of(leftovers.objects.begin(), leftovers.objects.end(),
                                    [](const auto& name) { return name.starts_with("trigger "); });
  return triggers ? kDisabledAreLeft : kTablesAreLeft;
} catch (const pg::Error&) {
  return swap_.disabled ? kDisabledAreLeft : kHelpersAreLeft;
}

}  // namespace django_session::sessions
