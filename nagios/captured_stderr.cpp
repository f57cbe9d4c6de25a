// A file in memory in the place of descriptor 2.
#include "captured_stderr.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

namespace django_session::nagios {

CapturedStderr::CapturedStderr()
    : captured_(memfd_create("stderr", MFD_CLOEXEC)),
      original_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
  if (captured_ >= 0) dup2(captured_, STDERR_FILENO);
}

CapturedStderr::~CapturedStderr() {
  if (original_ >= 0) {
    dup2(original_, STDERR_FILENO);
    close(original_);
  }
  if (captured_ >= 0) close(captured_);
}

std::string CapturedStderr::text() const {
  std::array<char, 1024> buffer{};
  const ssize_t size = captured_ >= 0 ? pread(captured_, buffer.data(), buffer.size(), 0) : 0;
  return {buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

}  // namespace django_session::nagios
