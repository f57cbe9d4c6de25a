// SQLSTATEs alone don't tell: RAISE takes any. The context does: it names each function of a
// procedural language, in every language of messages as "PL/...".
#include "pg/server_message.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace django_session::pg {
namespace {

template <typename Values>
bool contains_any(std::string_view text, const Values& values) {
  return std::any_of(values.begin(), values.end(), [&](std::string_view value) {
    return text.find(value) != std::string_view::npos;
  });
}

/// The line of the context that tells of the innermost function; "" if there was none.
std::string_view innermost_function(std::string_view context) {
  const auto at = context.find("PL/");
  if (at == std::string_view::npos) return {};
  const auto newline = context.rfind('\n', at);
  const auto begin = newline == std::string_view::npos ? 0 : newline + 1;
  return context.substr(begin, context.find('\n', at) - begin);
}

/// A block of a message of ours, or a function that a message of ours or roles.sql has made.
bool is_ours(std::string_view function) {
  constexpr std::array<std::string_view, 3> kOurs = {"inline_code_block", "djs_",
                                                     "django_session_delete_expired"};
  return contains_any(function, kOurs);
}

/// What it executes is written in it: no text that it has put together from values.
bool executes_fixed_text(std::string_view function) {
  constexpr std::array<std::string_view, 3> kMayExecuteText = {"EXECUTE", "RETURN QUERY", "OPEN"};
  return function.find("PL/pgSQL") != std::string_view::npos &&
         !contains_any(function, kMayExecuteText);
}

/// Conditions whose texts have names of objects, files and settings, but no values. Not class 22,
/// which quotes what it refuses, nor XX000, which an extension may use for whatever it wants.
bool tells_no_value(std::string_view sqlstate) {
  constexpr std::array<std::string_view, 19> kClasses = {"01", "08", "0A", "0L", "0P", "23", "25",
                                                         "26", "28", "2B", "2D", "34", "3D", "40",
                                                         "44", "53", "54", "55", "57"};
  constexpr std::array<std::string_view, 10> kConditions = {
      "42501", "42P07", "42710", "42809", "42P16", "42P17", "58030", "58P01", "XX001", "XX002"};
  return std::find(kClasses.begin(), kClasses.end(), sqlstate.substr(0, 2)) != kClasses.end() ||
         std::find(kConditions.begin(), kConditions.end(), sqlstate) != kConditions.end();
}

std::string_view kind_of(std::string_view sqlstate) {
  if (sqlstate.starts_with("22")) return "a value was refused";
  if (sqlstate.starts_with("23")) return "a constraint was violated";
  if (sqlstate.starts_with("42")) return "a statement was refused";
  if (sqlstate.starts_with("P0")) return "an exception was raised";
  return "an error was raised";
}

bool is_part_of_a_name(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
         c == '.' || c == '$' || c == '"' || static_cast<unsigned char>(c) >= 0x80;
}

/// PL/pgSQL names "schema.function(types)", others a name in quotes; "" where neither is found.
std::string name_in(std::string_view function) {
  const auto language = function.find("PL/");
  if (language == std::string_view::npos) return "";
  if (const auto open = function.find('(', language); open != std::string_view::npos) {
    auto begin = open;
    while (begin > language && is_part_of_a_name(function[begin - 1])) --begin;
    const auto close = function.find(')', open);
    if (begin < open && close != std::string_view::npos)
      return std::string(function.substr(begin, close + 1 - begin));
  }
  const auto quote = function.find('"', language);
  if (quote == std::string_view::npos) return "";
  return std::string(function.substr(quote, function.find('"', quote + 1) + 1 - quote));
}

std::string place_of(const ServerMessage& message) {
  if (const std::string name = name_in(innermost_function(message.context)); !name.empty())
    return " in function " + name;
  return message.source_function.empty()
             ? ""
             : fmt::format(" in the server's {}", message.source_function);
}

}  // namespace

bool may_be_repeated(const ServerMessage& message) {
  const std::string_view function = innermost_function(message.context);
  const std::string_view sqlstate = message.sqlstate;
  if (sqlstate.empty()) return true;  // libpq's own words
  const bool is_of_42 = sqlstate.starts_with("42") || sqlstate.starts_with("3F");
  if (!function.empty() && !is_ours(function))
    return is_of_42 && message.in_a_functions_statement && executes_fixed_text(function);
  if (message.source_function == "exec_stmt_raise") return true;
  const bool at_a_place =
      message.in_our_statement || (message.in_a_functions_statement && !function.empty());
  return tells_no_value(sqlstate) || (is_of_42 && at_a_place);
}

std::string repeatable_text(const ServerMessage& message) {
  if (may_be_repeated(message)) return message.text;
  return fmt::format(
      "{}{}, SQLSTATE {}; the message itself may quote a session, and is in the server's log alone",
      kind_of(message.sqlstate), place_of(message), message.sqlstate);
}

}  // namespace django_session::pg
