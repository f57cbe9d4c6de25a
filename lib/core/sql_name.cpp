// When a name needs quotes.
#include "core/sql_name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace django_session {
namespace {

/// Reserved words that a schema, table, index or role might plausibly be called; quoting one too
/// few would be an error, quoting one too many is only ugly.
constexpr std::array<std::string_view, 12> kReserved = {
    "all",        "analyze", "default",      "end",   "group", "order",
    "references", "select",  "session_user", "table", "user",  "when"};

bool starts_a_name(char c) { return (c >= 'a' && c <= 'z') || c == '_'; }
bool continues_a_name(char c) { return starts_a_name(c) || (c >= '0' && c <= '9'); }

// Neither a line for a person nor Nagios' text can hold these as they are.
bool is_unprintable(char c) { return (c >= 0 && c < ' ') || c == 0x7f || c == '|'; }

/// With Unicode escapes: U&"odd\007Cname".
std::string escaped_identifier(std::string_view name) {
  std::string escaped = "U&\"";
  for (const char c : name) {
    if (is_unprintable(c)) {
      escaped += fmt::format("\\{:04X}", static_cast<unsigned>(c));
      continue;
    }
    if (c == '"' || c == '\\') escaped += c;
    escaped += c;
  }
  return escaped + '"';
}

}  // namespace

std::string sql_identifier(std::string_view name) {
  const bool plain = !name.empty() && starts_a_name(name.front()) &&
                     std::all_of(name.begin(), name.end(), continues_a_name) &&
                     std::find(kReserved.begin(), kReserved.end(), name) == kReserved.end();
  if (plain) return std::string(name);
  if (std::any_of(name.begin(), name.end(), is_unprintable)) return escaped_identifier(name);
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string sql_table(std::string_view schema, std::string_view table) {
  return sql_identifier(schema) + "." + sql_identifier(table);
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

std::string sql_code(std::string_view code) {
  std::string quoted = "E'";
  for (const char c : code) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

}  // namespace django_session
