// A queue of tickets beside a count.
#include "plugin/cleanup_turns.hpp"

#include <algorithm>

namespace django_session::plugin {

std::size_t CleanupTurns::at_once() const {
  const Lock lock(mutex_);
  return at_once_;
}

void CleanupTurns::set_at_once(std::size_t cleanups) {
  const Lock lock(mutex_);
  at_once_ = cleanups;
}

CleanupTurns::Turn CleanupTurns::take(const StopSignal& stop,
                                      const std::function<void()>& on_wait) {
  // Made first: whatever throws later must not leave a turn taken.
  const auto turn = std::make_shared<bool>(false);
  Turn guard(turn.get(), [self = shared_from_this(), turn](void*) {
    if (*turn) self->give_back();
  });
  const Lock lock(mutex_);
  const Ticket ticket = next_ticket_++;
  queue_.push_back(ticket);
  try {
    wait_for_turn(ticket, stop, on_wait);
  } catch (...) {
    leave_queue(ticket);
    throw;
  }
  leave_queue(ticket);
  if (stop.requested()) return nullptr;
  ++running_;
  *turn = true;
  return guard;
}

void CleanupTurns::wait_for_turn(Ticket ticket, const StopSignal& stop,
                                 const std::function<void()>& on_wait) {
  if (!is_next(ticket)) {
    const Unlocked while_it_is_said(mutex_);
    on_wait();
  }
  while (!stop.requested() && !is_next(ticket)) changed_.wait(mutex_);
}

void CleanupTurns::wake() {
  { const Lock lock(mutex_); }  // none is between its look and its wait
  changed_.notify_all();
}

void CleanupTurns::leave_queue(Ticket ticket) {
  std::erase(queue_, ticket);
  changed_.notify_all();
}

void CleanupTurns::give_back() {
  const Lock lock(mutex_);
  --running_;
  changed_.notify_all();
}

}  // namespace django_session::plugin
