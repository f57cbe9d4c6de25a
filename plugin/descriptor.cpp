// Opening and closing.
#include "plugin/descriptor.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace django_session::plugin {

bool Descriptor::reset() {
  const int number = std::exchange(number_, -1);
  return number < 0 || close(number) == 0;
}

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

}  // namespace django_session::plugin
