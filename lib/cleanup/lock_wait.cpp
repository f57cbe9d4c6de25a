// Since when a lock is waited for, and when to say so.
#include "cleanup/lock_wait.hpp"

#include <random>

namespace django_session::sessions {

bool granted(const std::function<void()>& attempt) try {
  attempt();
  return true;
} catch (const pg::Error& error) {
  if (!error.lock_not_available()) throw;
  return false;
}

void LockWait::was_refused() {
  const auto now = Clock::now();
  if (!since_) {
    since_ = now;
    next_note_.reset();
    if (patience_.first_note) next_note_ = now + *patience_.first_note;
  }
  if (!next_note_ || now < *next_note_) return;
  run_.note("waiting for " + patience_.lock + ": " + patience_.who());
  next_note_.reset();
  if (patience_.next_notes) next_note_ = Clock::now() + *patience_.next_notes;
}

bool LockWait::lasts_for(std::chrono::milliseconds time) const {
  return since_ && Clock::now() - *since_ > time;
}

std::string LockWait::never_granted() const {
  return patience_.lock + " was never granted: " + patience_.who();
}

std::chrono::milliseconds random_between(std::chrono::milliseconds least,
                                         std::chrono::milliseconds most) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<long long> between(least.count(), most.count());
  return std::chrono::milliseconds(between(random));
}

}  // namespace django_session::sessions
