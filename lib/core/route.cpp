// psql and our own programs take the same options, but for -h and -H.
#include "core/route.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/sql_name.hpp"

namespace django_session {
namespace {

std::string escaped_shell_word(const std::string& text) {
  std::string quoted = "$'";
  for (const char c : text) {
    if (c >= ' ' && c < 0x7f && c != '|' && c != '\'' && c != '\\')
      quoted += c;
    else
      quoted += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
  }
  return quoted + "'";
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_.-/:,").find(c) != std::string_view::npos;
}

/// A value in a connection string.
std::string conninfo_value(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += (c == '\'' || c == '\\' ? "\\" : "") + std::string(1, c);
  return quoted + "'";
}

/// psql and libpq read such a name as a connection string.
bool looks_like_conninfo(const std::string& database) {
  return database.find('=') != std::string::npos || database.starts_with("postgres://") ||
         database.starts_with("postgresql://");
}

std::string database_option(const Route& route) {
  if (looks_like_conninfo(route.database))
    return "-d " + shell_word("dbname=" + conninfo_value(route.database));
  return "-d " + shell_word(route.database);
}

std::string begin(const Route& route, const char* program, const char* host_option) {
  const std::string system_user = route.as_postgres ? "postgres" : route.system_user;
  std::string text = system_user.empty() ? "" : fmt::format("sudo -u {} ", shell_word(system_user));
  text += program;
  if (!route.host.empty()) text += fmt::format(" {} {}", host_option, shell_word(route.host));
  if (!route.port.empty()) text += " -p " + shell_word(route.port);
  if (!route.database.empty()) text += " " + database_option(route);
  if (!route.user.empty()) text += " -U " + shell_word(route.user);
  return text;
}

/// Where the database's owner, or anyone who may create there, has put what is called alike.
bool looks_up_names(const std::string& statement) {
  return statement.starts_with("SELECT ") && !statement.starts_with("SELECT pg_catalog.");
}

}  // namespace

std::string shell_word(const std::string& text) {
  if (!text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), is_plain))
    return text;
  if (!survives_printing(text)) return escaped_shell_word(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string table_word(const std::string& schema, const std::string& table) {
  const auto part = [](const std::string& name) {
    if (name.find_first_of(".\":=") == std::string::npos) return name;
    std::string quoted = "\"";
    for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  };
  return shell_word(part(schema) + "." + part(table));
}

std::string psql_command(const Route& route, const std::string& words) {
  return begin(route, "psql", "-h") + " " + words;
}

std::string psql_statement(const Route& route, const std::string& statement) {
  const char* lookup = looks_up_names(statement) ? "SET LOCAL search_path = pg_catalog; " : "";
  return psql_command(route, "-c " + shell_word(lookup + statement));
}

std::string psql_unless_locked(const Route& route, const std::string& statement) {
  return begin(route, "env PGOPTIONS='-c lock_timeout=2s' psql", "-h") + " -c " +
         shell_word(statement);
}

std::string roles_file() { return DJANGO_SESSION_ROLES_FILE; }

std::string cleanup_command(const Route& route, const std::string& words) {
  return fmt::format("{} {}", begin(route, "django_session_cleanup", "-H"), words);
}

}  // namespace django_session
