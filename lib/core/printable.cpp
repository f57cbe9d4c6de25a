// Which bytes are characters of UTF-8 (RFC 3629), and which of these aren't to be shown.
#include "core/printable.hpp"

#include <algorithm>
#include <array>

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

struct CodePoints {
  unsigned first, last;
};

// Unicode's categories Cc, Cf, Zl and Zp, as of Unicode 16. Terminals obey U+0080 to U+009F, and
// some readers take U+0085, U+2028 and U+2029 for a line's end.
constexpr std::array<CodePoints, 22> kNotShown = {{
    {0x0000, 0x001f},   {0x007f, 0x009f},   {0x00ad, 0x00ad},   {0x0600, 0x0605},
    {0x061c, 0x061c},   {0x06dd, 0x06dd},   {0x070f, 0x070f},   {0x0890, 0x0891},
    {0x08e2, 0x08e2},   {0x180e, 0x180e},   {0x200b, 0x200f},   {0x2028, 0x202e},
    {0x2060, 0x2064},   {0x2066, 0x206f},   {0xfeff, 0xfeff},   {0xfff9, 0xfffb},
    {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3},
    {0x1d173, 0x1d17a}, {0xe0001, 0xe007f},
}};

bool is_shown(unsigned point) {
  return std::none_of(kNotShown.begin(), kNotShown.end(), [point](const CodePoints& range) {
    return point >= range.first && point <= range.last;
  });
}

}  // namespace

Character first_character(std::string_view text) {
  const std::size_t length = character_length(text);
  if (length == 0) return {text.substr(0, 1), false};
  const std::string_view bytes = text.substr(0, length);
  return {bytes, is_shown(code_point(bytes))};
}

unsigned code_point(std::string_view bytes) {
  constexpr unsigned kOwnBits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  unsigned point = byte_at(bytes, 0) & kOwnBits[bytes.size()];
  for (std::size_t i = 1; i < bytes.size(); ++i) point = point << 6 | (byte_at(bytes, i) & 0x3fU);
  return point;
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
