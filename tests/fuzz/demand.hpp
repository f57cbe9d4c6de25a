// What must hold whatever the text, and how a fuzzing program says that it doesn't.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/printable.hpp"

namespace django_session::fuzz {

inline void demand(bool holds, std::string_view what, std::string_view text) {
  if (holds) return;
  std::fprintf(stderr, "demanded: %.*s: %.*s\n", static_cast<int>(what.size()), what.data(),
               static_cast<int>(text.size()), text.data());
  std::abort();
}

/// A message for people: one line of valid UTF-8.
inline void demand_a_line(const std::string& message) {
  demand(!message.empty() && without_controls(message, '?') == message, "one line", message);
}

inline std::string_view text_of(const unsigned char* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace django_session::fuzz
