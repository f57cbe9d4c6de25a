// SQL with {placeholders}, compared with their arguments when this is compiled. Most of such texts
// are files of their own: folder/sql/*.sql, which cmake/embed_sql.cmake turns into constants.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace django_session::sql {

/// A placeholder's name as an argument of a template: arg<"oid">(...).
struct Name {
  char letters[40] = {};
  consteval Name(std::string_view text) { std::copy(text.begin(), text.end(), letters); }
  consteval Name(const char* text) : Name(std::string_view(text)) {}
  constexpr std::string_view text() const { return letters; }
};

/// What a placeholder stands for. `is_optional`: a text needn't have it.
template <Name name, bool is_optional>
struct Argument {
  std::string value;
};

template <Name name, typename Value>
Argument<name, false> arg(const Value& value) {
  return {fmt::format("{}", value)};
}

/// One of those that many texts are offered, of which each takes what it has use for.
template <Name name, typename Value>
Argument<name, true> optional_arg(const Value& value) {
  return {fmt::format("{}", value)};
}

/// A text up to its first placeholder, that one's name, and what follows it. No name: there is no
/// further placeholder.
struct Piece {
  std::string_view before, name, rest;
};

/// Only {lower_case} is a placeholder: {0,9} in a pattern and '{}' mean themselves.
constexpr Piece next_piece(std::string_view text) {
  for (auto open = text.find('{'); open != text.npos; open = text.find('{', open + 1)) {
    const auto begin = open + 1;
    const auto end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", begin);
    if (end != text.npos && end > begin && text[end] == '}')
      return {text.substr(0, open), text.substr(begin, end - begin), text.substr(end + 1)};
  }
  return {text, "", ""};
}

constexpr bool has_placeholder(std::string_view text, std::string_view name) {
  for (Piece piece = next_piece(text); !piece.name.empty(); piece = next_piece(piece.rest))
    if (piece.name == name) return true;
  return false;
}

/// The first placeholder that is none of these; "" if there is none.
template <Name... names>
consteval Name first_unknown(std::string_view text) {
  for (Piece piece = next_piece(text); !piece.name.empty(); piece = next_piece(piece.rest))
    if (((piece.name != names.text()) && ...)) return piece.name;
  return "";
}

// Types, so that a compiler that complains says which Name it is about.
template <Name name>
struct PlaceholderWithoutArgument {
  static_assert(name.text().empty(), "the SQL has a {placeholder} for which there is no argument");
};
template <Name name, bool is_used>
struct ArgumentWithoutPlaceholder {
  static_assert(is_used, "there is an argument for which the SQL has no {placeholder}");
};

/// `text` with its placeholders filled in; what is filled in is not looked at for more of them.
/// Doesn't compile where a placeholder has no argument, or an argument no placeholder.
template <const std::string_view& text, Name... names, bool... is_optional>
std::string fill(const Argument<names, is_optional>&... arguments) {
  [[maybe_unused]] constexpr PlaceholderWithoutArgument<first_unknown<names...>(text)> kAllKnown{};
  (void(ArgumentWithoutPlaceholder < names,
        is_optional || has_placeholder(text, names.text()) > ()),
   ...);
  std::string filled;
  Piece piece = next_piece(text);
  for (; !piece.name.empty(); piece = next_piece(piece.rest)) {
    filled += piece.before;
    ((piece.name == names.text() ? void(filled += arguments.value) : void()), ...);
  }
  return filled += piece.before;
}

}  // namespace django_session::sql
