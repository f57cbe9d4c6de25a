// The one wording for text that can't be read.
#include "core/config_error.hpp"

#include <fmt/format.h>

#include "core/printable.hpp"
#include "core/secret.hpp"

namespace django_session {
namespace {

std::string place(std::string_view text, std::size_t position) {
  if (position == 0) return "";
  if (position >= text.size()) return " at its end";
  const bool hidden = repeatable(text) == repeatable("://");
  return hidden ? "" : fmt::format(" at \"{}\"", repeatable(text.substr(position)));
}

}  // namespace

ConfigError unreadable(std::string_view text, std::size_t position, std::string_view kind,
                       std::string_view wrong, std::string_view example) {
  return ConfigError(fmt::format("cannot read \"{}\" as {}{}: {}, for example {}", repeatable(text),
                                 kind, place(text, position), without_controls(wrong, '?'),
                                 example));
}

}  // namespace django_session
