// A queue of tickets beside a count.
#include "plugin/cleanup_turns.hpp"

#include <algorithm>

namespace django_session::plugin {

std::size_t CleanupTurns::at_once() const {
  const std::lock_guard lock(mutex_);
  return at_once_;
}

void CleanupTurns::set_at_once(std::size_t cleanups) {
  const std::lock_guard lock(mutex_);
  at_once_ = cleanups;
}

CleanupTurns::Turn CleanupTurns::take(const StopSignal& stop,
                                      const std::function<void()>& on_wait) {
  // Made first: whatever throws later must not leave a turn taken.
  const auto turn = std::make_shared<bool>(false);
  Turn guard(turn.get(), [self = shared_from_this(), turn](void*) {
    if (*turn) self->give_back();
  });
  std::unique_lock lock(mutex_);
  const Ticket ticket = next_ticket_++;
  queue_.push_back(ticket);
  if (!is_next(ticket)) {
    lock.unlock();
    try {
      on_wait();
    } catch (...) {
      leave_queue(ticket);
      throw;
    }
    lock.lock();
  }
  changed_.wait(lock, [&] { return stop.requested() || is_next(ticket); });
  std::erase(queue_, ticket);
  if (!stop.requested()) {
    ++running_;
    *turn = true;
  }
  lock.unlock();
  changed_.notify_all();
  return *turn ? guard : nullptr;
}

void CleanupTurns::wake() {
  { const std::lock_guard lock(mutex_); }  // none is between its look and its wait
  changed_.notify_all();
}

void CleanupTurns::leave_queue(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  std::erase(queue_, ticket);
  changed_.notify_all();
}

void CleanupTurns::give_back() {
  const std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

}  // namespace django_session::plugin
