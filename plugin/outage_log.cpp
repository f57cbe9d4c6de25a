// The store of lines, and what makes two messages the same.
#include "plugin/outage_log.hpp"

#include <algorithm>
#include <cctype>
#include <set>

namespace django_session::plugin {
namespace {

/// "5", "4.9" and "10.0.0.1" are numbers.
std::string with_numbers_alike(std::string_view word) {
  std::string text;
  for (const char c : word) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit && !(c == '.' && text.ends_with('#'))) text += c;
    if (digit && !text.ends_with('#')) text += '#';
  }
  return text;
}

}  // namespace

std::optional<OutageLog::Line> OutageLog::next(const std::string& cause, const std::string& trouble,
                                               Time now) {
  if (cause == standing_ || !take_line(now)) return std::nullopt;
  standing_ = cause;
  if (cause.empty()) return Line{false, "readings have resumed"};
  return Line{true, trouble};
}

bool OutageLog::take_line(Time now) {
  const std::chrono::duration<double, std::ratio<60>> minutes = now - lines_counted_.value_or(now);
  lines_ = std::min(kMostLines, lines_ + minutes.count());
  lines_counted_ = now;
  if (lines_ < 1) return false;
  lines_ -= 1;
  return true;
}

std::string cause_of(std::string_view message) {
  constexpr std::string_view kBetweenWords = " \t";
  std::set<std::string> words;
  std::string_view rest = message;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find_first_of(kBetweenWords));
    if (!word.empty()) words.insert(with_numbers_alike(word));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  std::string cause;
  for (const std::string& word : words) cause += (cause.empty() ? "" : " ") + word;
  return cause;
}

}  // namespace django_session::plugin
