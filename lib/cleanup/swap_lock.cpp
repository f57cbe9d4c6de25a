// Asks for the lock again and again, and looks first who is there.
#include "cleanup/swap_lock.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cleanup/lock_wait.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/swap_error.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

constexpr int kMostGrants = 3;
constexpr const char* kTooSlow =
    "it was granted, but the work under it took longer than is allowed";

// {0} the table's OID: of the table and of the swap's helpers, which are its owner's.
constexpr const char* kOurRelations = R"(
  SELECT c.oid FROM pg_class t JOIN pg_class c ON c.oid = t.oid
    OR c.relname IN ('djs_{0}_state', 'djs_{0}_log', 'djs_{0}_new', 'djs_{0}_old')
      AND c.relowner = t.relowner
  WHERE t.oid = {0})";

}  // namespace

void SwapLock::with(const std::string& doing, TableLock lock, const std::function<void()>& attempt,
                    const std::function<void()>& while_hopeless) {
  const bool of_helpers = lock == TableLock::of_helpers;
  const milliseconds longest =
      of_helpers ? milliseconds(patience::kForHelpersLock) : milliseconds(patience::kForSwapsLock);
  Tries tries;
  tries.pause = patience::kShortestPause;
  const auto why = [&] { return tries.too_slow ? std::string(kTooSlow) : who_holds(); };
  LockWait wait(swap_.run, {"the lock " + doing, why, longest, patience::kFirstLockNote,
                            patience::kBetweenLockNotes});
  LockWatch others(swap_.run, our_tables(), lock);
  const auto start = Clock::now();
  const auto hope =
      std::min<milliseconds>(patience::kHopesForBetter, swap_.run.end().remaining() / 3);
  for (;;) {
    swap_.run.check();
    swap_.renew_lease();
    // Nobody but us uses the helpers.
    const bool hopeless =
        !of_helpers && swap_.phase != Phase::exchanged && others.sees_a_long_one();
    if (!hopeless || Clock::now() - start > hope) {
      if (succeeds(attempt, hopeless, tries)) return;
    } else {
      tries.too_slow = false;  // it isn't tried: because of who holds it
      if (while_hopeless) while_hopeless();
    }
    wait.was_refused();
    if (wait.is_given_up())
      throw Paused((tries.too_slow ? "the lock " + doing + ": " + kTooSlow : wait.never_granted()) +
                   "; last: " + tries.refused);
    const milliseconds rest =
        hopeless ? std::min(tries.pause, patience::kLongTransaction) : tries.pause;
    swap_.run.rest(random_between(rest, rest + patience::kShortestPause));
  }
}

bool SwapLock::succeeds(const std::function<void()>& attempt, bool hopeless, Tries& tries) try {
  attempt();
  return true;
} catch (const pg::Error& error) {
  if (!was_refused(error, hopeless, tries)) throw;
  return false;
}

/// That it wasn't granted, or was for nothing; else the error has another reason.
bool SwapLock::was_refused(const pg::Error& error, bool hopeless, Tries& tries) {
  tries.refused = error.what();
  tries.too_slow = error.statement_timed_out();
  if (is(error, kTryAgain)) {
    more_keys_ *= 2;
    return true;
  }
  if (!is_lock_trouble(error) && !(is_concurrent_grant(error) && ++tries.grants <= kMostGrants))
    return false;
  swap_.run.had_locked_for(swap_.lock_timeout());
  tries.pause =
      std::min(tries.pause * 2, hopeless ? patience::kLongestPause * 2 : patience::kLongestPause);
  return true;
}

void SwapLock::wait_for_table(const pg::Error& error) {
  if (!locked_out_) locked_out_ = Clock::now();
  if (Clock::now() - *locked_out_ > patience::kForSwapsLock) throw;
  if (Clock::now() - noted_ >= patience::kBetweenLockNotes) {
    swap_.run.note(fmt::format("waiting: {}", error.what()));
    noted_ = Clock::now();
  }
  swap_.run.rest(patience::kLongTransaction);
  swap_.renew_lease();
}

std::string SwapLock::our_tables() const {
  return fmt::format("ANY ({})", fmt::format(kOurRelations, swap_.names.oid));
}

std::string SwapLock::who_holds() const { return lock_holders(swap_.run, our_tables()); }

}  // namespace django_session::sessions
