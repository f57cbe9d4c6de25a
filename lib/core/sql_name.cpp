// When a name needs quotes.
#include "core/sql_name.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/printable.hpp"

namespace django_session {
namespace {

/// What can't be a name without quotes somewhere, of PostgreSQL 13 to 18 (pg_get_keywords(): R, T).
constexpr std::string_view kReserved =
    " all analyse analyze and any array as asc asymmetric authorization binary both case cast "
    "check collate collation column concurrently constraint create cross current_catalog "
    "current_date current_role current_schema current_time current_timestamp current_user "
    "default deferrable desc distinct do else end except false fetch for foreign freeze from "
    "full grant group having ilike in initially inner intersect into is isnull join lateral "
    "leading left like limit localtime localtimestamp natural not notnull null offset on only "
    "or order outer overlaps placing primary references returning right select session_user "
    "similar some symmetric system_user table tablesample then to trailing true union unique "
    "user using variadic verbose when where window with ";

bool starts_a_name(char c) { return (c >= 'a' && c <= 'z') || c == '_'; }
bool continues_a_name(char c) { return starts_a_name(c) || (c >= '0' && c <= '9'); }

// Nagios' text ends at a '|'.
bool is_shown(const Character& character) {
  return character.is_printable && character.bytes != "|";
}

/// A byte that is no part of a character has no escape: one that the server refuses is better than
/// another name.
unsigned escaped_number(std::string_view bytes) {
  constexpr unsigned kLoneSurrogates = 0xdc00;
  const auto byte = static_cast<unsigned char>(bytes.front());
  return bytes.size() == 1 && byte >= 0x80 ? kLoneSurrogates + byte : code_point(bytes);
}

std::string quoted_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

/// What comes before a number of four hexadecimal digits, and of `digits` where it is larger.
struct Escapes {
  std::string_view of_four, of_more;
  int digits;
};

std::string escape_of(std::string_view bytes, const Escapes& escapes) {
  constexpr unsigned kMostInFour = 0xffff;
  const unsigned number = escaped_number(bytes);
  return number <= kMostInFour ? fmt::format("{}{:04X}", escapes.of_four, number)
                               : fmt::format("{}{:0{}X}", escapes.of_more, number, escapes.digits);
}

/// `text` with `quote`s and backslashes doubled, and escapes for what isn't shown.
std::string escaped(std::string_view text, std::string_view quote, const Escapes& escapes) {
  std::string result;
  while (!text.empty()) {
    const Character character = first_character(text);
    text.remove_prefix(character.bytes.size());
    if (!is_shown(character)) {
      result += escape_of(character.bytes, escapes);
      continue;
    }
    if (character.bytes == quote || character.bytes == "\\") result += character.bytes;
    result += character.bytes;
  }
  return result;
}

/// With Unicode escapes: U&"odd\007Cname".
std::string escaped_identifier(std::string_view name) {
  return "U&\"" + escaped(name, "\"", {"\\", "\\+", 6}) + '"';
}

/// In quotes, of one kind or the other.
std::string printable_identifier(std::string_view name) {
  return survives_printing(name) ? quoted_identifier(name) : escaped_identifier(name);
}

}  // namespace

bool survives_printing(std::string_view text) {
  for (; !text.empty(); text.remove_prefix(first_character(text).bytes.size()))
    if (!is_shown(first_character(text))) return false;
  return true;
}

std::string sql_identifier(std::string_view name) {
  const bool plain = !name.empty() && starts_a_name(name.front()) &&
                     std::all_of(name.begin(), name.end(), continues_a_name) &&
                     kReserved.find(fmt::format(" {} ", name)) == std::string_view::npos;
  return plain ? std::string(name) : printable_identifier(name);
}

std::string with_printable_names(std::string_view sql) {
  std::string text;
  while (!sql.empty()) {
    const auto open = std::min(sql.find('"'), sql.size());
    text += sql.substr(0, open);
    sql.remove_prefix(open);
    std::string name;
    std::size_t end = 1;
    for (; end < sql.size(); ++end) {
      if (sql[end] == '"' && (end + 1 == sql.size() || sql[end + 1] != '"')) break;
      name += sql[end];
      if (sql[end] == '"') ++end;
    }
    if (end >= sql.size()) return text += sql;  // nothing that is quoted
    const bool is_escaped = text.ends_with("U&");
    text += is_escaped ? std::string(sql.substr(0, end + 1)) : printable_identifier(name);
    sql.remove_prefix(end + 1);
  }
  return text;
}

std::string sql_table(std::string_view schema, std::string_view table) {
  return sql_identifier(schema) + "." + sql_identifier(table);
}

std::string table_text(std::string_view schema, std::string_view table) {
  return quoted_identifier(schema) + "." + quoted_identifier(table);
}

std::string sql_string(std::string_view text) {
  // A database's owner can turn standard_conforming_strings off: then a backslash in a plain string
  // escapes what follows it, our closing quote for one.
  if (text.find('\\') != std::string_view::npos) return sql_code(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += '\'';
    quoted += c;
  }
  return quoted + '\'';
}

std::string printable_string(std::string_view text) {
  return survives_printing(text) ? sql_string(text)
                                 : "E'" + escaped(text, "'", {"\\u", "\\U", 8}) + '\'';
}

std::string sql_code(std::string_view code) {
  std::string quoted = "E'";
  for (const char c : code) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

}  // namespace django_session
