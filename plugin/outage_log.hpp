// What is said in the log of readings that fail: when that begins, when its cause changes, and when
// they resume. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace django_session::plugin {

/// Takes the log's last word to the present state, with a small store of lines for what changes
/// quickly: five, and one more for each minute. Whatever comes and goes, a database costs a line a
/// minute at most in the long run, and what lasts is always said in the end.
class OutageLog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Line {
    bool is_error;
    std::string text;
  };

  /// After each reading: its trouble in one line and the cause, or "" for both if there is none.
  /// What to say, if anything. Only another cause is news, not another wording.
  std::optional<Line> next(const std::string& cause, const std::string& trouble, Time now);

 private:
  bool take_line(Time now);

  std::string standing_;  ///< the cause as the log has it now
  double lines_ = kMostLines;
  std::optional<Time> lines_counted_;

  static constexpr double kMostLines = 5;
};

/// What a message says, without what differs from one time to the next though the cause is the
/// same: numbers (process ids, ports, addresses, times) and the order of several hosts.
std::string cause_of(std::string_view message);

}  // namespace django_session::plugin
