// Characters are counted as UTF-8: every byte but continuation bytes begins one.
#include "line_text.hpp"

#include <algorithm>

#include "core/printable.hpp"
#include "core/sql_name.hpp"

namespace django_session::nagios {
namespace {

constexpr std::string_view kEllipsis = "...";

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

/// Bytes of the first `count` characters.
std::size_t bytes_of(std::string_view text, std::size_t count) {
  std::size_t begun = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (begins_character(text[i]) && ++begun > count) return i;
  return text.size();
}

}  // namespace

std::string plain_line(std::string_view text) {
  std::string line = without_controls(with_printable_names(text), '?');
  std::replace(line.begin(), line.end(), '|', '/');
  return line;
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string shorten(std::string_view text, std::size_t limit) {
  if (character_count(text) <= limit) return std::string(text);
  return std::string(text.substr(0, bytes_of(text, limit - kEllipsis.size()))).append(kEllipsis);
}

}  // namespace django_session::nagios
