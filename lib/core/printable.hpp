// Text from elsewhere (command lines, names and messages of the database, a program's output), made
// fit to be shown on one line, and to be sent to readers that insist on valid UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace django_session {

/// What a text begins with: a valid character, or a byte that is no part of one.
struct Character {
  std::string_view bytes;
  bool is_printable;  ///< see without_controls()
};

/// `text` isn't empty.
Character first_character(std::string_view text);

/// Of a valid character.
unsigned code_point(std::string_view bytes);

/// `text` as valid UTF-8 of one line, that reads as it is written: each control character (C0, DEL,
/// C1), line or paragraph separator and format character (which reverses text, or can't be seen),
/// and each byte that is no part of a valid character, is replaced by `replacement`.
std::string without_controls(std::string_view text, char replacement);

/// As much of the beginning as takes at most `most` bytes, without cutting a UTF-8 character.
std::string_view cut_to_bytes(std::string_view text, std::size_t most);

}  // namespace django_session
