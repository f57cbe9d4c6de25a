// Waiting for a lock that others hold: by asking for it again and again, since everybody who comes
// after us waits behind us as long as we ask for a lock that isn't granted.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "cleanup/run.hpp"

namespace django_session::sessions {

struct LockPatience {
  std::string lock;                   ///< "the table's lock", for messages
  std::function<std::string()> who;   ///< has it, for messages
  std::chrono::milliseconds longest;  ///< then it is given up
  /// When a note says who has it, counted from the first time that it wasn't granted, and how often
  /// after that; nothing: never.
  std::optional<std::chrono::milliseconds> first_note, next_notes;
};

/// False where `attempt` ends because a lock was not granted.
bool granted(const std::function<void()>& attempt);

class LockWait {
 public:
  LockWait(Run& run, LockPatience patience) : run_(run), patience_(std::move(patience)) {}

  /// It was not granted: a note, where one is due.
  void was_refused();
  void was_granted() { since_.reset(); }

  bool is_refused() const { return since_.has_value(); }
  /// It hasn't been granted for longer than that.
  bool lasts_for(std::chrono::milliseconds time) const;
  bool is_given_up() const { return lasts_for(patience_.longest); }
  /// "the table's lock was never granted: pid 4711 ..."
  std::string never_granted() const;

 private:
  using Clock = std::chrono::steady_clock;

  Run& run_;
  const LockPatience patience_;
  std::optional<Clock::time_point> since_, next_note_;
};

/// So that we don't always meet the same job of someone else's.
std::chrono::milliseconds random_between(std::chrono::milliseconds least,
                                         std::chrono::milliseconds most);

}  // namespace django_session::sessions
