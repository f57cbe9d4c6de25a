// By SQLSTATE and by the function of the server that refused, since its words are in its language;
// libpq's own are English here.
#include "connection_failure.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

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
  const auto last = text.find_last_not_of(" \t\n");
  return std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
}

/// Where several hosts were tried, the last: the SQLSTATE is its. Nothing where libpq's words are
/// others.
std::optional<Attempt> last_attempt(std::string_view message) {
  const auto begin = message.rfind(kAttempt);
  if (begin == std::string_view::npos) return std::nullopt;
  message.remove_prefix(begin);
  const auto failed = message.find(kFailed);
  if (failed == std::string_view::npos) return std::nullopt;
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

/// "" where it isn't a number: a password may have got into its place.
std::string port_of_environment() {
  const char* value = std::getenv("PGPORT");
  const std::string port = value != nullptr ? value : "";
  return port.find_first_not_of("0123456789") == std::string::npos ? port : "";
}

/// An option, or what the connection string or URI says in its place.
std::string given(const pg::Parameters& parameters, const std::string& option,
                  const char* keyword) try {
  return option.empty() ? pg::keyword_of(parameters.dbname, keyword) : option;
} catch (const ConfigError&) {
  return "";
}

/// "while connecting to db1": the one of several that a time limit met; which one's port it is
/// isn't known.
Attempt attempt_of(const pg::Parameters& parameters, const std::string& message) {
  Attempt attempt{given(parameters, parameters.host, "host"),
                  given(parameters, parameters.port, "port"), message};
  if (attempt.port.empty()) attempt.port = port_of_environment();
  if (attempt.port.find(',') != std::string::npos) attempt.port = "PORT";
  const std::string_view host = between(message, "while connecting to ", "\n");
  if (!host.empty()) attempt.host = std::string(host);
  attempt.by_socket = attempt.host.starts_with('/');
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

/// On the server's machine: over the socket that was used, or its default one.
Route administrators_route(const Words& w, const std::string& database = "") {
  return {.database = database,
          .host = w.attempt.by_socket ? w.attempt.host : "",
          .port = or_placeholder(w.attempt.port, "5432"),
          .as_postgres = true};
}

std::string administrators_sql(const Words& w, const std::string& sql) {
  return "  " + psql_statement(administrators_route(w), sql);
}

/// In a password file.
std::string field(const std::string& text) {
  std::string field;
  for (const char c : text) field += c == ':' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return or_placeholder(field, "*");
}

/// Of a socket's folder libpq looks for "localhost" where it is its own default, else for its name.
std::vector<std::string> of_password(const Words& w) {
  return {
      "Next: give the user that runs this check the role's password, where it is read from: "
      "PGPASSWORD or the service file, if they have one, else the password file (~/.pgpass, mode "
      "600), as the line:",
      fmt::format("  {}:{}:{}:{}:PASSWORD", w.attempt.by_socket ? "*" : field(w.attempt.host),
                  field(w.attempt.port), field(w.database), field(w.role))};
}

std::vector<std::string> of_peer(const Words& w) {
  if (!w.attempt.by_socket)
    return {
        "Next: the method that pg_hba.conf on the server has for this machine (ident, LDAP, PAM, a "
        "certificate) doesn't let this role in: fix it there, or name another role with -U"};
  return {
      "Next: over its socket the server lets a system user log in only as the role of the same "
      "name: map this check's user to the role in pg_ident.conf (man 7 django_session), or connect "
      "with -H localhost and a password file"};
}

std::vector<std::string> of_no_entry(const Words& w) {
  const char* line = w.attempt.by_socket ? "  local  {}  {}  peer map=django_session"
                                         : "  host  {}  {}  ADDRESS/32  scram-sha-256";
  return {
      "Next: on the server, add this line to pg_hba.conf, above all that reject it (ADDRESS: this "
      "machine's; the map: man 7 django_session), and reload it:",
      fmt::format(fmt::runtime(line), sql_identifier(or_placeholder(w.database, "DATABASE")),
                  sql_identifier(or_placeholder(w.role, "ROLE"))),
      administrators_sql(w, "SELECT pg_catalog.pg_reload_conf()")};
}

std::vector<std::string> of_role(const Words& w) {
  if (w.role.empty()) return {"Next: name a role that exists with -U"};
  return {
      "Next: if the name is mistyped, give the right one with -U; else, on the server, where "
      "roles.sql is needed, too, make the role a monitor that may log in:",
      "  " + psql_command(
                 administrators_route(w, or_placeholder(w.database, "DATABASE")),
                 fmt::format("-v monitor={} -f {}", shell_word(w.role), shell_word(roles_file()))),
      administrators_sql(w, fmt::format("ALTER ROLE {} LOGIN", sql_identifier(w.role)))};
}

std::vector<std::string> of_connect_right(const Words& w) {
  return {"Next: on the server, give the role the right:",
          administrators_sql(w, fmt::format("GRANT CONNECT ON DATABASE {} TO {}",
                                            sql_identifier(or_placeholder(w.database, "DATABASE")),
                                            sql_identifier(or_placeholder(w.role, "ROLE"))))};
}

std::vector<std::string> of_database(const Words& w) {
  return {"Next: name another database with -d; on the server, this lists them:",
          "  " + psql_command(administrators_route(w), "-l")};
}

struct Limit {
  const char* of;
  std::string owner;  ///< what ALTER would take; "": it takes a restart
};

Limit reached_limit(const Words& w) {
  const std::string& function = w.error.login().function;
  if (function == "InitializeSessionUserId" && !w.role.empty())
    return {"the role", "ROLE " + sql_identifier(w.role)};
  if (function == "CheckMyDatabase" && !w.database.empty())
    return {"the database", "DATABASE " + sql_identifier(w.database)};
  return {"the server", ""};
}

std::vector<std::string> of_connections(const Words& w) {
  const Limit limit = reached_limit(w);
  std::vector<std::string> next{
      fmt::format("Next: {} has no connection left; on the server, this says who has them:",
                  limit.of),
      administrators_sql(w,
                         "SELECT usename, datname, state, count(*), min(state_change) "
                         "FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC")};
  if (!limit.owner.empty()) {
    next.emplace_back("Instead: if all of them are wanted, take its own limit away:");
    next.push_back(administrators_sql(w, fmt::format("ALTER {} CONNECTION LIMIT -1", limit.owner)));
  }
  return next;
}

std::vector<std::string> of_silence(const Words& w) {
  return {
      "Next: does the server run, on this host and port, and does a firewall let this machine "
      "through?",
      fmt::format("  pg_isready -h {} -p {}",
                  shell_word(or_placeholder(w.attempt.host, "localhost")),
                  or_placeholder(w.attempt.port, "5432")),
      "  pg_lsclusters; systemctl status 'postgresql*'"};
}

std::vector<std::string> of_tls() {
  return {
      "Next: server and client disagree on TLS or on a certificate: compare sslmode and "
      "sslrootcert here (service file, PGSSLMODE, PGSSLROOTCERT) with ssl and ssl_cert_file on the "
      "server"};
}

std::vector<std::string> of_kind_of_server() {
  return {
      "Next: the server answers, but isn't of the kind that target_session_attrs asks for (in -d, "
      "the service file or PGTARGETSESSIONATTRS): a primary, or a standby"};
}

std::vector<std::string> of_service() {
  return {
      "Next: name a section of the service file with --service: PGSERVICEFILE, ~/.pg_service.conf "
      "of the user that runs this check, or pg_service.conf in PGSYSCONFDIR"};
}

std::vector<std::string> of_name(const Words& w) {
  return {
      w.error.looked_up_too_long()
          ? "Next: a name service doesn't answer (or the LDAP or Kerberos that the login needs); "
            "does this end at once? If not, give -H the address:"
          : "Next: the host's name is not known here; check it, or give -H its address:",
      fmt::format("  getent hosts {}", shell_word(or_placeholder(w.attempt.host, "HOST")))};
}

std::vector<std::string> of_start() {
  return {
      "Next: the server is starting or stopping: wait for it, and read its log if that takes long"};
}

std::vector<std::string> of_closed_database(const Words& w) {
  return {
      "Next: an administrator has closed the database; if that wasn't on purpose, on the server:",
      administrators_sql(w, fmt::format("ALTER DATABASE {} ALLOW_CONNECTIONS true",
                                        sql_identifier(or_placeholder(w.database, "DATABASE"))))};
}

/// PostgreSQL names the function of its source that refuses; a pooler, which has its own words, doesn't.
std::vector<std::string> of_refusal(const Words& w) {
  if (!w.error.login().function.empty()) return {};
  return {
      "Next: a pooler says this, not PostgreSQL: do the databases and users in PgBouncer's "
      "configuration have these, and does PostgreSQL run behind it? On its machine, its log says:",
      "  sudo tail -n 20 /var/log/postgresql/pgbouncer.log"};
}

struct Steps {
  RunbookSection section;
  std::vector<std::string> next;
};

Steps next_steps(const Words& w) {
  const std::string &sqlstate = w.error.sqlstate(), &function = w.error.login().function;
  if (w.error.login().misses_connect)
    return {RunbookSection::no_connect_right, of_connect_right(w)};
  if (sqlstate == "28P01" || says(w.error, "no password supplied"))
    return {RunbookSection::password, of_password(w)};
  if (sqlstate == "28000" && function == "InitializeSessionUserId")
    return {RunbookSection::no_role, of_role(w)};
  if (sqlstate == "28000" && function == "auth_failed") return {RunbookSection::peer, of_peer(w)};
  if (sqlstate == "28000" && function == "ClientAuthentication")
    return {RunbookSection::no_entry, of_no_entry(w)};
  if (sqlstate == "3D000") return {RunbookSection::no_database, of_database(w)};
  if (sqlstate == "53300") return {RunbookSection::no_connection_left, of_connections(w)};
  if (sqlstate == "57P03") return {RunbookSection::starting, of_start()};
  if (sqlstate == "55000" && function == "CheckMyDatabase")
    return {RunbookSection::other_login, of_closed_database(w)};
  if (!sqlstate.empty()) return {RunbookSection::other_login, of_refusal(w)};
  if (w.error.looked_up_too_long() || says(w.error, "could not translate host name"))
    return {RunbookSection::no_host, of_name(w)};
  if (says(w.error, "definition of service")) return {RunbookSection::no_service, of_service()};
  if (says(w.error, "hot standby mode") || says(w.error, "session is "))
    return {RunbookSection::kind_of_server, of_kind_of_server()};
  if (says(w.error, "SSL") || says(w.error, "certificate")) return {RunbookSection::tls, of_tls()};
  return {RunbookSection::no_answer, of_silence(w)};
}

std::string place(const Words& w) {
  const Attempt& a = w.attempt;
  std::string text = a.by_socket || a.port.empty() ? a.host : a.host + ":" + a.port;
  if (a.by_socket && !a.port.empty()) text += ", port " + a.port;
  if (!w.database.empty()) text += (text.empty() ? "database " : ", database ") + w.database;
  return text.empty() ? "" : " (" + text + ")";
}

}  // namespace

std::vector<std::string> look_at_slow_server(const pg::Error& error,
                                             const pg::Parameters& parameters) {
  const Words w{error, attempt_of(parameters, ""), "", ""};
  std::vector<std::string> next{
      "Next: on the server, this says what everybody waits for:",
      administrators_sql(w,
                         "SELECT wait_event_type, wait_event, state, count(*), min(query_start) "
                         "FROM pg_stat_activity WHERE pid <> pg_backend_pid() GROUP BY 1, 2, 3 "
                         "ORDER BY 4 DESC")};
  if (error.statement_timed_out()) {
    next.emplace_back(
        "Next: or is a statement_timeout set that is too short for the check's role? This says:");
    next.push_back(administrators_sql(
        w, "SELECT setdatabase, setrole::regrole, setconfig FROM pg_db_role_setting"));
  }
  return next;
}

ConnectionFailure explain_connection(const pg::Error& error, const pg::Parameters& parameters) {
  const auto attempt = last_attempt(error.what());
  const pg::Error::Login& login = error.login();
  const Words w{error, attempt.value_or(attempt_of(parameters, error.what())),
                login.database.empty() ? database_of(parameters) : login.database,
                login.role.empty() ? parameters.user : login.role};
  Steps steps = next_steps(w);
  return {w.attempt.reason + place(w), std::move(steps.next), steps.section};
}

}  // namespace django_session::nagios
