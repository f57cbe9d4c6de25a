// An event descriptor beside an atomic: one to wait for, one to ask.
#include "plugin/stop_signal.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace django_session::plugin {

StopSignal::StopSignal() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

StopSignal::~StopSignal() { close(descriptor_); }

void StopSignal::request(Clock::time_point give_up) {
  if (claimed_.exchange(true)) return;
  give_up_.store(give_up, std::memory_order_release);
  requested_.store(true, std::memory_order_release);
  eventfd_write(descriptor_, 1);
}

}  // namespace django_session::plugin
