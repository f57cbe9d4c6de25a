// A program's output, cut into lines that a log can take.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace django_session::plugin {

/// Hands on each line as it comes, as valid UTF-8 without control characters. Lines over 500 bytes
/// are cut, and after 200 lines the rest is only counted.
class OutputLines {
 public:
  explicit OutputLines(const std::function<void(const std::string&)>& on_line)
      : on_line_(on_line) {}

  void add(std::string_view output);
  void finish();  ///< what has no newline at its end is a line, too

 private:
  void end_line();

  const std::function<void(const std::string&)>& on_line_;
  std::string line_;
  std::size_t count_ = 0;
};

}  // namespace django_session::plugin
