// The one wording for text that can't be read.
#include "core/config_error.hpp"

#include <fmt/format.h>

#include "core/printable.hpp"

namespace django_session {
namespace {

constexpr std::size_t kLongestShown = 60;  // bytes
constexpr std::string_view kEllipsis = "...";

bool continues_utf8(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::string shown(std::string_view text) {
  if (text.size() <= kLongestShown) return without_controls(text, '?');
  std::size_t cut = kLongestShown - kEllipsis.size();
  while (cut > 0 && continues_utf8(text[cut])) --cut;
  return without_controls(text.substr(0, cut), '?').append(kEllipsis);
}

std::string place(std::string_view text, std::size_t position) {
  if (position == 0) return "";
  if (position >= text.size()) return " at its end";
  return fmt::format(" at \"{}\"", shown(text.substr(position)));
}

}  // namespace

ConfigError unreadable(std::string_view text, std::size_t position, std::string_view kind,
                       std::string_view wrong, std::string_view example) {
  return ConfigError(fmt::format("cannot read \"{}\" as {}{}: {}, for example {}", shown(text),
                                 kind, place(text, position), without_controls(wrong, '?'),
                                 example));
}

}  // namespace django_session
