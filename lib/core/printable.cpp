// Which bytes are characters of UTF-8 (RFC 3629), and which of these are control characters.
#include "core/printable.hpp"

namespace django_session {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

bool is_continuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

/// Bytes of a character that begins with `first`; 0 if none does.
std::size_t length_begun_by(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 0;
}

/// Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
bool second_byte_fits(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second <= 0x9f;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second <= 0x8f;
    default:
      return true;
  }
}

/// Bytes of the valid character that `text` begins with; 0 if it begins with none.
std::size_t character_length(std::string_view text) {
  const std::size_t length = length_begun_by(byte_at(text, 0));
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (!is_continuation(byte_at(text, i))) return 0;
  return length < 2 || second_byte_fits(byte_at(text, 0), byte_at(text, 1)) ? length : 0;
}

/// Terminals obey U+0080 to U+009F, and some readers take U+0085, U+2028 and U+2029 for a line's
/// end.
bool is_control(std::string_view character) {
  switch (character.size()) {
    case 1:
      return byte_at(character, 0) < 0x20 || character == "\x7f";
    case 2:
      return character[0] == '\xc2' && byte_at(character, 1) <= 0x9f;
    default:
      return character == "\xe2\x80\xa8" || character == "\xe2\x80\xa9";
  }
}

}  // namespace

Character first_character(std::string_view text) {
  const std::size_t length = character_length(text);
  if (length == 0) return {text.substr(0, 1), false};
  const std::string_view bytes = text.substr(0, length);
  return {bytes, !is_control(bytes)};
}

std::string without_controls(std::string_view text, char replacement) {
  std::string clean;
  while (!text.empty()) {
    const Character character = first_character(text);
    if (character.is_printable)
      clean += character.bytes;
    else
      clean += replacement;
    text.remove_prefix(character.bytes.size());
  }
  return clean;
}

std::string_view cut_to_bytes(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && is_continuation(byte_at(text, most))) --most;
  return text.substr(0, most);
}

}  // namespace django_session
