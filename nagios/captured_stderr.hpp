// Keeps what libraries print away from stderr, which Nagios doesn't show.
#pragma once

#include <string>

namespace django_session::nagios {

/// As long as it lives, stderr goes into memory: libpq complains there about a password file that
/// others may read, and then connects without it.
class CapturedStderr {
 public:
  CapturedStderr();
  ~CapturedStderr();
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;

  /// What was printed so far, at most a kilobyte.
  std::string text() const;

 private:
  int captured_ = -1, original_ = -1;
};

}  // namespace django_session::nagios
