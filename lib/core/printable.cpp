// Which characters are control characters, in ASCII and UTF-8.
#include "core/printable.hpp"

#include <cstddef>

namespace django_session {
namespace {

bool is_ascii_control(char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }

/// U+0080 to U+009F, two bytes in UTF-8: terminals obey them and some readers take U+0085 for a
/// line's end.
bool is_c1_control(std::string_view two) {
  return two.size() == 2 && two[0] == '\xc2' && static_cast<unsigned char>(two[1]) >= 0x80 &&
         static_cast<unsigned char>(two[1]) <= 0x9f;
}

}  // namespace

std::string without_controls(std::string_view text, char replacement) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_c1_control(text.substr(i, 2))) {
      clean += replacement;
      ++i;
    } else {
      clean += is_ascii_control(text[i]) ? replacement : text[i];
    }
  }
  return clean;
}

}  // namespace django_session
