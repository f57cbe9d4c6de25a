// SQLSTATEs alone don't tell: RAISE takes any. The context does: it names each function of a
// procedural language, in every language of messages as "PL/...".
#include "pg/server_message.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace django_session::pg {
namespace {

/// The line of the context that tells of the innermost function; "" if there was none.
std::string_view innermost_function(std::string_view context) {
  const auto at = context.find("PL/");
  if (at == std::string_view::npos) return {};
  const auto newline = context.rfind('\n', at);
  const auto begin = newline == std::string_view::npos ? 0 : newline + 1;
  return context.substr(begin, context.find('\n', at) - begin);
}

bool is_lower_case_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  });
}

/// A function without arguments whose name begins so: in "schema.name()".
bool is_named(std::string_view function, std::string_view beginning) {
  const auto at = function.find("." + std::string(beginning));
  if (beginning.empty() || at == std::string_view::npos) return false;
  const std::string_view rest = function.substr(at + 1 + beginning.size());
  return is_lower_case_word(rest.substr(0, rest.find("()"))) && rest.find("()") != rest.npos;
}

/// A block of a message of ours, which has no schema and no arguments; a function that one has made;
/// or that of roles.sql.
bool is_ours(std::string_view function, std::string_view own_functions) {
  return function.find(" inline_code_block ") != function.npos ||
         is_named(function, own_functions) ||
         function.find(".django_session_delete_expired") != function.npos;
}

template <std::size_t size>
bool is_one_of(std::string_view text, const std::array<std::string_view, size>& all) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

/// Whatever a function was called with: what does not exist, a file, a setting or a word is quoted
/// as it was given, and a server's own function may be given a session's key by one of the site's in
/// SQL, which leaves no trace in the context where it was inlined. So only texts that are fixed, or
/// that name what exists.
bool tells_no_value(const ServerMessage& message) {
  constexpr std::array<std::string_view, 9> kClasses = {"01", "23", "25", "2B", "40",
                                                        "44", "53", "55", "57"};
  constexpr std::array<std::string_view, 9> kConditions = {
      "42P07", "42710", "42809", "42P16", "42P17", "54001", "58030", "XX001", "XX002"};
  const std::string_view sqlstate = message.sqlstate, function = message.source_function;
  if (is_one_of(sqlstate.substr(0, 2), kClasses) || is_one_of(sqlstate, kConditions)) return true;
  if (sqlstate == "42501")  // that a file may not be read is one, too
    return function.starts_with("aclcheck_error") || function.starts_with("check_") ||
           function == "call_string_check_hook" || function == "ExecWithCheckOptions";
  return sqlstate == "54000" && function.starts_with("_bt_");  // too large for an index
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
  // Cancelled, out of time: fixed texts, whatever was interrupted. RAISE has a function of its own.
  if (message.source_function == "ProcessInterrupts") return true;
  if (!function.empty() && !is_ours(function, message.own_functions)) return false;
  if (message.source_function == "exec_stmt_raise" && !function.empty()) return true;
  const bool is_of_names =
      sqlstate.starts_with("42") || sqlstate.starts_with("3F") || sqlstate.starts_with("0A");
  return tells_no_value(message) || (is_of_names && message.in_our_statement);
}

std::string repeatable_text(const ServerMessage& message) {
  if (may_be_repeated(message)) return message.text;
  return fmt::format(
      "{}{}, SQLSTATE {}; the message itself may quote a session, and is in the server's log alone",
      kind_of(message.sqlstate), place_of(message), message.sqlstate);
}

}  // namespace django_session::pg
