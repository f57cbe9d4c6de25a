// Cutting and counting.
#include "plugin/output_lines.hpp"

#include <fmt/format.h>

#include "core/printable.hpp"

namespace django_session::plugin {
namespace {

constexpr std::size_t kLongestLine = 500, kLongestCharacter = 4;  // bytes
constexpr std::size_t kMostLines = 200;

}  // namespace

void OutputLines::add(std::string_view output) {
  for (const char c : output) {
    if (c == '\n')
      end_line();
    else if (line_.size() <= kLongestLine + kLongestCharacter)
      line_ += c;
  }
}

void OutputLines::finish() {
  if (!line_.empty()) end_line();
  if (count_ > kMostLines) on_line_(fmt::format("({} more lines not shown)", count_ - kMostLines));
}

void OutputLines::end_line() {
  if (++count_ <= kMostLines) {
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    const std::string_view shown = cut_to_bytes(line_, kLongestLine);
    on_line_(without_controls(shown, '?') + (shown.size() < line_.size() ? "..." : ""));
  }
  line_.clear();
}

}  // namespace django_session::plugin
