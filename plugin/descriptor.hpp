// A file descriptor that is closed when its owner goes, and a pipe of two.
#pragma once

#include <utility>

namespace django_session::plugin {

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  int number() const { return number_; }  ///< -1: none
  bool reset();                           ///< false: it was open, and close() failed

 private:
  int number_;
};

struct Pipe {
  Descriptor read_end, write_end;
};

/// Closed in programs that are started. Throws std::system_error.
Pipe make_pipe();

}  // namespace django_session::plugin
