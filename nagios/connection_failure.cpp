// By SQLSTATE and by the function of the server that refused, since its words are in its language;
// libpq's own are English here.
#include "connection_failure.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>

#include "core/config_error.hpp"
#include "core/route.hpp"
#include "core/sql_name.hpp"

namespace django_session::nagios {
namespace {

constexpr std::string_view kAttempt = "connection to server ";
constexpr std::string_view kFailed = " failed: ";

/// `connection to server at "db1" (10.0.0.1), port 5432 failed: FATAL:  reason`, taken apart.
struct Attempt {
  std::string host, port, reason;
  bool by_socket = false;
};

std::string_view between(std::string_view text, std::string_view begin, std::string_view end) {
  const auto at = text.find(begin);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + begin.size());
  return text.substr(0, text.find(end));
}

/// "FATAL:  reason. Is the server running locally ...?" -> "reason".
std::string plain_reason(std::string_view text) {
  constexpr std::size_t kLongestSeverity = 24;  // bytes
  const auto severity = text.substr(0, kLongestSeverity).find(":  ");
  if (severity != std::string_view::npos) text.remove_prefix(severity + 3);
  text = text.substr(0, text.find("Is the server running"));
  text = text.substr(0, text.find(kAttempt));
  const auto last = text.find_last_not_of(" \t\n");
  return std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
}

/// The first of them, where several hosts were tried; nothing where libpq's words are others.
std::optional<Attempt> first_attempt(std::string_view message) {
  const auto failed = message.find(kFailed);
  if (!message.starts_with(kAttempt) || failed == std::string_view::npos) return std::nullopt;
  const std::string_view where = message.substr(0, failed);
  Attempt attempt;
  attempt.reason = plain_reason(message.substr(failed + kFailed.size()));
  const std::string_view socket = between(where, "on socket \"", "\"");
  attempt.by_socket = !socket.empty();
  if (attempt.by_socket) {
    const auto file = socket.rfind("/.s.PGSQL.");
    attempt.host = std::string(socket.substr(0, file));
    if (file != std::string_view::npos)
      attempt.port = std::string(socket.substr(socket.rfind('.') + 1));
  } else {
    attempt.host = std::string(between(where, "at \"", "\""));
    attempt.port = std::string(between(where, "port ", " "));
  }
  return attempt;
}

bool says(const pg::Error& error, std::string_view words) {
  return std::string_view(error.what()).find(words) != std::string_view::npos;
}

/// "" where only libpq's defaults or a service file say.
std::string database_of(const pg::Parameters& parameters) try {
  return pg::database_name(parameters.dbname);
} catch (const ConfigError&) {
  return "";
}

struct Words {
  const pg::Error& error;
  Attempt attempt;
  std::string database, role;
};

std::string or_placeholder(const std::string& text, const char* placeholder) {
  return text.empty() ? placeholder : text;
}

std::string administrators_psql(const Words& w, const std::string& arguments) {
  return fmt::format("  sudo -u postgres psql -p {} {}", or_placeholder(w.attempt.port, "5432"),
                     arguments);
}

std::vector<std::string> of_password(const Words& w) {
  return {
      "Next: put the role's password into the password file of the user that runs this check "
      "(~/.pgpass, mode 600), as a line; \\password in psql sets a new one:",
      fmt::format("  {}:{}:{}:{}:PASSWORD", or_placeholder(w.attempt.host, "*"),
                  or_placeholder(w.attempt.port, "*"), or_placeholder(w.database, "*"),
                  or_placeholder(w.role, "*"))};
}

std::vector<std::string> of_peer() {
  return {
      "Next: by its socket the server lets a system user in as the role of the same name only: map "
      "the user of this check to its role in pg_ident.conf (README, Logging in), or connect with "
      "-H localhost and a password file"};
}

std::vector<std::string> of_no_entry(const Words& w) {
  return {
      "Next: on the server, add a line for this machine's address to pg_hba.conf, and reload it "
      "with the command below:",
      fmt::format("  host  {}  {}  ADDRESS/32  scram-sha-256",
                  sql_identifier(or_placeholder(w.database, "DATABASE")),
                  sql_identifier(or_placeholder(w.role, "ROLE"))),
      administrators_psql(w, "-c 'SELECT pg_reload_conf()'")};
}

std::vector<std::string> of_role(const Words& w) {
  return {
      "Next: the role does not exist, or may not log in. For a monitor: conf.d/roles.sql makes it, "
      "in the folder of our sources on the server; else name another with -U:",
      administrators_psql(w, fmt::format("-d {} -v monitor={} -f conf.d/roles.sql",
                                         shell_word(or_placeholder(w.database, "DATABASE")),
                                         shell_word(or_placeholder(w.role, "ROLE"))))};
}

std::vector<std::string> of_database(const Words& w) {
  return {"Next: name another database with -d; on the server, this lists them:",
          administrators_psql(w, "-l")};
}

std::vector<std::string> of_connections(const Words& w) {
  return {
      "Next: the server has no connection left for this role; on the server, this says who has "
      "them:",
      administrators_psql(w,
                          "-c 'SELECT usename, datname, state, count(*), min(state_change) "
                          "FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC'")};
}

std::vector<std::string> of_silence(const Words& w) {
  return {
      "Next: is the server running, on this host and port? Without an answer there may be a "
      "firewall in between:",
      fmt::format("  pg_isready -h {} -p {}",
                  shell_word(or_placeholder(w.attempt.host, "localhost")),
                  or_placeholder(w.attempt.port, "5432")),
      "  pg_lsclusters; systemctl status 'postgresql*'"};
}

std::vector<std::string> of_tls() {
  return {
      "Next: server and client disagree on TLS or on a certificate: compare sslmode and "
      "sslrootcert "
      "here (service file, PGSSLMODE, PGSSLROOTCERT) with ssl and ssl_cert_file on the server"};
}

std::vector<std::string> of_name(const Words& w) {
  return {"Next: the host's name is not known here; check it, or give -H its address:",
          fmt::format("  getent hosts {}", shell_word(or_placeholder(w.attempt.host, "HOST")))};
}

std::vector<std::string> next_steps(const Words& w) {
  const std::string &sqlstate = w.error.sqlstate(), &function = w.error.login_function();
  if (sqlstate == "28P01" || says(w.error, "no password supplied")) return of_password(w);
  if (sqlstate == "28000" && function == "InitializeSessionUserId") return of_role(w);
  if (sqlstate == "28000" && function == "auth_failed") return of_peer();
  if (sqlstate == "28000" && function == "ClientAuthentication") return of_no_entry(w);
  if (sqlstate == "3D000") return of_database(w);
  if (sqlstate == "53300") return of_connections(w);
  if (sqlstate == "57P03") return {"Next: the server is starting or stopping: wait for it"};
  if (!sqlstate.empty()) return {};
  if (says(w.error, "could not translate host name")) return of_name(w);
  if (says(w.error, "SSL") || says(w.error, "certificate")) return of_tls();
  return of_silence(w);
}

std::string place(const Words& w) {
  const Attempt& a = w.attempt;
  std::string text = a.by_socket || a.port.empty() ? a.host : a.host + ":" + a.port;
  if (a.by_socket && !a.port.empty()) text += ", port " + a.port;
  if (!w.database.empty()) text += (text.empty() ? "database " : ", database ") + w.database;
  return text.empty() ? "" : " (" + text + ")";
}

}  // namespace

ConnectionFailure explain_connection(const pg::Error& error, const pg::Parameters& parameters) {
  const auto attempt = first_attempt(error.what());
  Words w{error, attempt.value_or(Attempt{parameters.host, parameters.port, error.what()}),
          database_of(parameters), parameters.user};
  return {w.attempt.reason + place(w), next_steps(w)};
}

}  // namespace django_session::nagios
