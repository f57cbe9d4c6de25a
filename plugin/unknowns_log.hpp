// What is said in the log of values that are unknown: when it begins, changes or ends, and not at
// every turn of what comes and goes. Pure.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

namespace django_session::plugin {

class UnknownsLog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Line {
    bool is_warning;
    std::string text;
  };

  /// After each reading: why values are unknown, or "" if all are known. What to say, if anything.
  /// The same reasons, whatever numbers are in them, are given once an hour at most.
  std::optional<Line> next(const std::string& reasons, Time now);

 private:
  std::string standing_;              ///< as the log has it now, see cause_of()
  std::map<std::string, Time> said_;  ///< and when it was given
};

}  // namespace django_session::plugin
