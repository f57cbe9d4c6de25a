// How libpq is driven: never blocking, every wait in poll() until the deadline.
#include "pg/connection.hpp"

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <sstream>
#include <system_error>

#include "core/config_error.hpp"
#include "core/printable.hpp"
#include "core/secret.hpp"
#include "pg/login_error.hpp"
#include "pg/server_message.hpp"

namespace django_session::pg {
namespace {

/// libpq's messages end in a newline and may have several lines; ours go into one log line.
std::string one_line(const char* message) {
  const std::string line = without_controls(message, ' ');
  const auto last = line.find_last_not_of(' ');
  return last == std::string::npos ? "no reason given" : line.substr(0, last + 1);
}

constexpr std::chrono::milliseconds kLongestPoll{60'000};

/// Waits until the socket is ready for `events`; false when the deadline passed first.
bool wait_for_socket(PGconn* connection, short events, Deadline deadline) {
  pollfd ready{PQsocket(connection), events, 0};
  for (;;) {
    const auto wait = std::min(deadline.remaining(), kLongestPoll);  // poll() takes an int
    const int count = poll(&ready, 1, static_cast<int>(wait.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR)
      return true;  // let libpq find out what is wrong with the socket
    if (deadline.passed()) return false;
  }
}

void ignore_notice(void*, const char*) {}

std::string timeout_message(std::string_view doing) {
  return fmt::format("timed out while {}", doing);
}

bool is_connection_string(const std::string& dbname) {  // libpq's own rule
  return dbname.find('=') != std::string::npos || dbname.starts_with("postgresql://") ||
         dbname.starts_with("postgres://");
}

struct KeywordList {
  std::vector<const char*> keywords, values;

  void add(const char* keyword, const char* value) {
    keywords.push_back(keyword);
    values.push_back(value);
  }
  void add_given(const char* keyword, const std::string& value) {
    if (!value.empty()) add(keyword, value.c_str());
  }
};

/// A dead peer must not keep a kept-open connection alive for the kernel's two hours: probe after
/// 30 s of silence, give up after three probes 10 s apart. Defaults only: a connection string,
/// coming later in the list, overrides them. The encoding, coming last, overrides all else.
KeywordList keywords_for(const Parameters& parameters, const char* encoding) {
  KeywordList list;
  list.add("keepalives_idle", "30");
  list.add("keepalives_interval", "10");
  list.add("keepalives_count", "3");
  list.add("fallback_application_name", "django_session");
  list.add_given("dbname", parameters.dbname);
  list.add_given("host", parameters.host);
  list.add_given("port", parameters.port);
  list.add_given("user", parameters.user);
  list.add_given("password", parameters.password);
  list.add_given("sslmode", parameters.sslmode);
  list.add_given("service", parameters.service);
  list.add_given("passfile", parameters.passfile);
  list.add("client_encoding", encoding);
  list.add(nullptr, nullptr);
  return list;
}

}  // namespace

namespace {

constexpr std::size_t kMostNotices = 20;

std::string field(const PGresult* result, int code) {
  const char* text = PQresultErrorField(result, code);
  return text != nullptr ? text : "";
}

ServerMessage message_of(const PGresult* result, const std::string& own_functions) {
  return {field(result, PG_DIAG_SQLSTATE),
          field(result, PG_DIAG_MESSAGE_PRIMARY),
          field(result, PG_DIAG_CONTEXT),
          field(result, PG_DIAG_SOURCE_FUNCTION),
          !field(result, PG_DIAG_STATEMENT_POSITION).empty(),
          own_functions};
}

/// The newest: the code of a table, too, may say much.
void keep(std::vector<std::string>& kept, const std::string& text) {
  if (kept.size() >= kMostNotices) kept.erase(kept.begin());
  kept.push_back(one_line(text.c_str()));
}

}  // namespace

void Connection::keep_notice(void* notices, const PGresult* notice) {
  auto& kept = *static_cast<Notices*>(notices);
  const std::string severity = field(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
  const ServerMessage message = message_of(notice, kept.own_functions);
  if (severity == "WARNING" && may_be_repeated(message)) keep(kept.warnings, message.text);
  if (severity == "INFO" && message.text.starts_with(kReportMark) && may_be_repeated(message))
    keep(kept.infos, message.text);
}

Connection::Connection(ConnectionHandle handle, std::shared_ptr<const Parameters> parameters)
    : parameters_(std::move(parameters)),
      notices_(std::make_unique<Notices>()),
      handle_(std::move(handle)) {
  PQsetNoticeReceiver(handle_.get(), keep_notice, notices_.get());
}

void CloseConnection::operator()(pg_conn* connection) const { PQfinish(connection); }

void ClearResult::operator()(pg_result* result) const { PQclear(result); }

void Connection::close() {
  arrived_.reset();
  handle_.reset();
}

namespace {

using ConninfoOptions = std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)>;

ConninfoOptions parse_conninfo(const std::string& dbname) {
  char* ignored_error = nullptr;  // quotes the text, which may hold a password
  ConninfoOptions options(PQconninfoParse(dbname.c_str(), &ignored_error), PQconninfoFree);
  PQfreemem(ignored_error);
  if (!options) {
    throw ConfigError(
        "the database is not a valid connection string or URI (not repeated here, it may hold a "
        "password); write site, \"host=db1 dbname=site\" or postgresql://db1/site");
  }
  return options;
}

/// "" for one that isn't given.
std::string value_of(const ConninfoOptions& options, const char* keyword) {
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr && std::strcmp(option->keyword, keyword) == 0) return option->val;
  }
  return "";
}

bool is_one_of(std::string_view keyword, std::initializer_list<std::string_view> keywords) {
  return std::find(keywords.begin(), keywords.end(), keyword) != keywords.end();
}

/// Whether a value that libpq or the server complains of may be a password in the wrong place. A
/// message needs names and files; what is wrong with another option is said without its value.
bool must_not_be_repeated(std::string_view keyword, std::string_view value) {
  if (keyword == "host") return host_may_hold_password(value);
  if (is_one_of(keyword, {"dbname", "user", "service"})) return may_hold_password(value);
  if (keyword == "hostaddr")
    return value.find_first_not_of("0123456789abcdefABCDEF.:,%") != std::string_view::npos;
  return !is_one_of(keyword, {"passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir",
                              "password", "application_name", "fallback_application_name"});
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

/// libpq puts quotes around what it complains of: a value, or a part of a list.
void hide(std::string& text, const std::string& value) {
  constexpr std::string_view kHidden = "(not repeated, it may be a password)";
  if (value.empty()) return;
  replace_all(text, '"' + value + '"', kHidden);
  std::istringstream parts(value);
  for (std::string part; std::getline(parts, part, ',');)
    if (!part.empty()) replace_all(text, '"' + part + '"', kHidden);
}

/// `text` of libpq's without the values, of the connection string or the environment, that may be
/// passwords.
std::string without_values(std::string text, pg_conn* connection) {
  // Where the service isn't found, libpq has come no further.
  const char* service = std::getenv("PGSERVICE");
  if (service != nullptr && must_not_be_repeated("service", service)) hide(text, service);
  const ConninfoOptions options(PQconninfo(connection), PQconninfoFree);
  if (!options) return text;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr || !must_not_be_repeated(option->keyword, option->val)) continue;
    hide(text, option->val);
  }
  return text;
}

/// "" for what may be a password.
std::string unless_secret(const char* name) {
  return name == nullptr || may_hold_password(name) ? "" : name;
}

/// The connection was given an address beside the name, which may be another server's.
bool has_address_beside_name(pg_conn* connection) {
  const ConninfoOptions options(PQconninfo(connection), PQconninfoFree);
  for (const PQconninfoOption* o = options.get(); o != nullptr && o->keyword != nullptr; ++o)
    if (std::string_view(o->keyword) == "hostaddr") return o->val != nullptr && *o->val != '\0';
  return false;
}

std::string conninfo_word(std::string_view value) {
  std::string word = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') word += '\\';
    word += c;
  }
  return word + '\'';
}

}  // namespace

void refuse_misplaced_password_in(const std::string& dbname) {
  constexpr std::string_view kRefused =
      " may hold a password (not repeated here) and would be shown in messages; it takes only a "
      "name, without ':' and '='";
  if (!is_connection_string(dbname)) {
    if (may_hold_password(dbname)) throw ConfigError(fmt::format("the database{}", kRefused));
    return;
  }
  const ConninfoOptions options = parse_conninfo(dbname);
  for (const char* keyword : {"dbname", "user", "service"})
    if (may_hold_password(value_of(options, keyword)))
      throw ConfigError(fmt::format("{} in the connection string{}", keyword, kRefused));
  if (host_may_hold_password(value_of(options, "host")))
    throw ConfigError(fmt::format("host in the connection string{}", kRefused));
  if (value_of(options, "port").find_first_not_of("0123456789, ") != std::string::npos)
    throw ConfigError(
        "port in the connection string is not a number (not repeated here, it may be a password)");
}

void refuse_password_in(const std::string& dbname) {
  refuse_misplaced_password_in(dbname);
  if (!is_connection_string(dbname)) return;
  const ConninfoOptions options = parse_conninfo(dbname);
  if (!value_of(options, "password").empty() || !value_of(options, "sslpassword").empty()) {
    throw ConfigError(
        "a password on the command line can be read by every user of this host; "
        "put it into a password file (~/.pgpass, or passfile=/path in the connection string)");
  }
}

std::string keyword_of(const std::string& dbname, const char* keyword) {
  return is_connection_string(dbname) ? value_of(parse_conninfo(dbname), keyword) : "";
}

std::string database_name(const std::string& dbname) {
  return is_connection_string(dbname) ? keyword_of(dbname, "dbname") : dbname;
}

std::string with_keywords(const std::string& dbname,
                          const std::function<bool(std::string_view keyword)>& keep) {
  if (!is_connection_string(dbname)) return dbname;
  const ConninfoOptions options = parse_conninfo(dbname);
  std::string kept;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr || !keep(option->keyword)) continue;
    kept += fmt::format("{}{}={}", kept.empty() ? "" : " ", option->keyword,
                        conninfo_word(option->val));
  }
  return kept;
}

namespace {

/// A SELECT without columns is there for what it does, as a SET is.
bool answers_nothing(const PGresult* result) {
  const ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COMMAND_OK || (status == PGRES_TUPLES_OK && PQnfields(result) == 0);
}

}  // namespace

void Connection::lose(Error::Kind kind, const std::string& message) {
  close();
  throw Error(kind, message);
}

void Connection::wait_for(short events, Deadline deadline) {
  if (!wait_for_socket(handle_.get(), events, deadline)) lose_by_time();
}

void Connection::lose_by_time() {
  lose(Error::Kind::timeout, timeout_message("waiting for the server's answer"));
}

void Connection::consume() {
  if (PQconsumeInput(handle_.get()) == 0)
    lose(Error::Kind::connection, one_line(PQerrorMessage(handle_.get())));
  // Code of the table's owner may have made us listen: libpq keeps them all until they are taken.
  while (PGnotify* const notification = PQnotifies(handle_.get())) PQfreemem(notification);
}

/// Of a server that sends without end, notices for instance, there is always something to read.
void Connection::end_at(Deadline deadline) {
  if (deadline.passed()) lose_by_time();
}

void Connection::send(const std::string& message, Deadline deadline) {
  if (!usable()) throw Error(Error::Kind::connection, "the connection is closed");
  pass_over_the_rest(deadline);
  start(message, deadline);
}

void Connection::start(const std::string& message, Deadline deadline) {
  notices_->infos.clear();
  if (PQsendQuery(handle_.get(), message.c_str()) == 0)
    lose(Error::Kind::connection, one_line(PQerrorMessage(handle_.get())));
  for (;;) {
    const int unsent = PQflush(handle_.get());
    if (unsent == 0) return;
    if (unsent < 0) lose(Error::Kind::connection, one_line(PQerrorMessage(handle_.get())));
    wait_for(POLLIN | POLLOUT, deadline);
    consume();
    end_at(deadline);
  }
}

void Connection::drain(Deadline deadline) {
  while (PQisBusy(handle_.get()) != 0) {
    wait_for(POLLIN, deadline);
    consume();
    if (PQisBusy(handle_.get()) != 0) end_at(deadline);
  }
}

bool Connection::answered_by(Deadline deadline) {
  if (!usable()) throw Error(Error::Kind::connection, "the connection is closed");
  while (!arrived_) {
    while (PQisBusy(handle_.get()) != 0) {
      if (!wait_for_socket(handle_.get(), POLLIN, deadline)) return false;
      consume();
      if (PQisBusy(handle_.get()) != 0 && deadline.passed()) return false;
    }
    arrived_.reset(PQgetResult(handle_.get()));
    if (!arrived_) return true;  // the end
    // A warning sends what is ready: a SET may have come long before the statement after it.
    if (answers_nothing(arrived_.get())) arrived_.reset();
  }
  return true;
}

void Connection::cancel(Deadline deadline) {
  if (!usable()) return;
  const std::shared_ptr<PGcancel> request(PQgetCancel(handle_.get()), PQfreeCancel);
  if (!request) return;
  // It opens a connection of its own, and waits without a time limit.
  BoundedCall<bool> call([request] {
    std::array<char, 256> ignored_error{};
    return PQcancel(request.get(), ignored_error.data(), ignored_error.size()) != 0;
  });
  call.wait(deadline);
  pass_over_the_rest(deadline);
}

bool Connection::server_answers(Deadline deadline) const try {
  Connector(*parameters_).connect(deadline);
  return true;
} catch (const Error& error) {
  return error.kind() != Error::Kind::timeout;
}

std::optional<Connection> Connection::another(Deadline deadline) const try {
  return Connector(*parameters_).connect(deadline);
} catch (const Error&) {
  return std::nullopt;
}

void Connection::set_own_functions(const std::string& beginning) {
  notices_->own_functions = beginning;
}

std::vector<std::string> Connection::take_warnings() {
  return std::exchange(notices_->warnings, {});
}

std::vector<std::string> Connection::take_infos() { return std::exchange(notices_->infos, {}); }

Address Connection::address() const {
  if (!usable()) return {};
  const char* host =
      has_address_beside_name(handle_.get()) ? PQhostaddr(handle_.get()) : PQhost(handle_.get());
  return {host, PQport(handle_.get())};
}

int Connection::backend_pid() const { return PQbackendPID(handle_.get()); }

bool Connection::is_pooled(Deadline deadline) {
  const Rows rows = run("SELECT pg_catalog.pg_backend_pid() AS pid", deadline);
  return rows.empty() || rows.front().text("pid") != std::to_string(backend_pid());
}

namespace {

Rows copy_rows(const PGresult* result) {
  Rows rows(static_cast<std::size_t>(PQntuples(result)));
  for (int column = 0; column < PQnfields(result); ++column) {
    const std::string name = PQfname(result, column);
    for (int row = 0; row < PQntuples(result); ++row) {
      std::optional<std::string> text;
      if (PQgetisnull(result, row, column) == 0) text = PQgetvalue(result, row, column);
      rows[static_cast<std::size_t>(row)].set(name, std::move(text));
    }
  }
  return rows;
}

Error error_of(const PGresult* result, const std::string& own_functions) {
  const ServerMessage message = message_of(result, own_functions);
  const std::string text = repeatable_text(message);
  return {Error::Kind::statement,
          one_line(text.empty() ? PQresultErrorMessage(result) : text.c_str()), message.sqlstate};
}

}  // namespace

ResultHandle Connection::next_result(Deadline deadline) {
  if (arrived_) return std::move(arrived_);
  drain(deadline);
  return ResultHandle(PQgetResult(handle_.get()));
}

std::optional<Rows> Connection::receive(Deadline deadline) {
  std::optional<Error> failure;
  for (;;) {
    const ResultHandle result = next_result(deadline);
    if (!result) break;
    if (answers_nothing(result.get())) continue;
    if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) return copy_rows(result.get());
    // The message ends here: read on to its end.
    failure = error_of(result.get(), notices_->own_functions);
  }
  if (PQstatus(handle_.get()) != CONNECTION_OK)
    lose(Error::Kind::connection, failure ? failure->what() : "the server closed the connection");
  if (failure) throw Error(*failure);
  return std::nullopt;
}

std::optional<Rows> Connection::next_rows(Deadline deadline) try {
  return receive(deadline);
} catch (const Error&) {
  roll_back_if_failed(deadline);
  throw;
}

void Connection::roll_back_if_failed(Deadline deadline) {
  if (PQtransactionStatus(handle_.get()) != PQTRANS_INERROR) return;
  start("ROLLBACK", deadline);
  while (receive(deadline)) continue;
}

Answer Connection::try_run(const std::string& message, Deadline deadline) {
  send(message, deadline);
  return rest_of_answer(deadline);
}

Answer Connection::rest_of_answer(Deadline deadline) {
  Answer answer;
  try {
    while (auto rows = next_rows(deadline))
      std::move(rows->begin(), rows->end(), std::back_inserter(answer.rows));
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::statement) throw;
    answer.refusal = error;
  }
  return answer;
}

Rows Connection::run(const std::string& message, Deadline deadline) {
  Answer answer = try_run(message, deadline);
  if (answer.refusal) throw Error(*answer.refusal);
  return std::move(answer.rows);
}

void Connection::pass_over_the_rest(Deadline deadline) try {
  while (PQtransactionStatus(handle_.get()) == PQTRANS_ACTIVE) next_rows(deadline);
} catch (const Error& error) {
  if (error.kind() != Error::Kind::statement) throw;
}

namespace {

std::string quoted(char* text, PGconn* connection) {
  const std::unique_ptr<char, decltype(&PQfreemem)> owner(text, PQfreemem);
  if (!owner) throw Error(Error::Kind::statement, one_line(PQerrorMessage(connection)));
  return owner.get();
}

}  // namespace

std::string Connection::literal(std::string_view text) const {
  return quoted(PQescapeLiteral(handle_.get(), text.data(), text.size()), handle_.get());
}

std::string Connection::identifier(std::string_view name) const {
  return quoted(PQescapeIdentifier(handle_.get(), name.data(), name.size()), handle_.get());
}

Connector::Outcome Connector::attempt(const Parameters& parameters, Encoding encoding,
                                      Deadline deadline) try {
  Outcome outcome = attempt_once(parameters, encoding, deadline);
  if (!outcome.no_conversion) return outcome;
  outcome.handle.reset();
  return attempt_once(parameters, Encoding::as_stored, deadline);
} catch (const std::exception& error) {  // nothing may leave the thread that this runs in
  return {nullptr, error.what()};
}

Connector::Outcome Connector::attempt_once(const Parameters& parameters, Encoding encoding,
                                           Deadline deadline) {
  const KeywordList list =
      keywords_for(parameters, encoding == Encoding::utf8 ? "UTF8" : "SQL_ASCII");
  ConnectionHandle handle(PQconnectStartParams(list.keywords.data(), list.values.data(), 1));
  if (!handle) return {nullptr, "out of memory"};
  PQsetNoticeProcessor(handle.get(), ignore_notice, nullptr);  // libpq's own prints to stderr
  PQsetErrorVerbosity(handle.get(), PQERRORS_VERBOSE);         // for the SQLSTATE
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  if (PQstatus(handle.get()) == CONNECTION_BAD) next = PGRES_POLLING_FAILED;
  while (next != PGRES_POLLING_OK) {
    if (next == PGRES_POLLING_FAILED) return refused(handle.get());
    const short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (!wait_for_socket(handle.get(), events, deadline)) {
      const char* host = PQhost(handle.get());
      return {
          nullptr,
          timeout_message(fmt::format("connecting to {}", host != nullptr ? host : "the server")),
          true};
    }
    next = PQconnectPoll(handle.get());
  }
  return connected(std::move(handle), encoding);
}

Connector::Outcome Connector::connected(ConnectionHandle handle, Encoding encoding) {
  // Of a server that ends the connection libpq has the words alone: no context, which would be a
  // whole statement of ours, and no detail.
  PQsetErrorVerbosity(handle.get(), PQERRORS_TERSE);
  if (PQsetnonblocking(handle.get(), 1) != 0)
    return {nullptr, one_line(PQerrorMessage(handle.get()))};
  Outcome outcome{std::move(handle), ""};
  // A database without an encoding refuses to send what isn't valid in ours.
  const char* stored = PQparameterStatus(outcome.handle.get(), "server_encoding");
  outcome.no_conversion =
      encoding == Encoding::utf8 && stored != nullptr && std::string_view(stored) == "SQL_ASCII";
  return outcome;
}

Connector::Outcome Connector::refused(pg_conn* connection) {
  const LoginError error = read_login_error(PQerrorMessage(connection));
  const std::string text = without_values(error.repeatable(), connection);
  Outcome outcome{nullptr, one_line(text.c_str())};
  outcome.sqlstate = error.sqlstate;
  outcome.login = {unless_secret(PQuser(connection)), unless_secret(PQdb(connection)),
                   error.function, error.misses_connect()};
  outcome.no_conversion = error.misses_conversion();
  return outcome;
}

void Connector::start_attempt(Deadline deadline) try {
  stuck_.emplace([parameters = parameters_, encoding = encoding_, deadline] {
    return attempt(*parameters, encoding, deadline);
  });
} catch (const std::system_error& error) {
  throw Error(Error::Kind::connection,
              fmt::format("no thread for connecting could be started: {}", error.code().message()));
}

Connection Connector::connect(Deadline deadline) {
  static const std::string kStuck = timeout_message(Error::kLookingUp);
  if (stuck_ && !stuck_->wait(deadline)) throw Error(Error::Kind::timeout, kStuck);
  start_attempt(deadline);
  // The attempt ends by itself at the deadline unless it is stuck in a call without one: a little
  // more time, so that its own, better explanation wins.
  const auto grace = deadline.remaining() + std::chrono::milliseconds(50);
  auto outcome = stuck_->wait(Deadline::after(grace));
  if (!outcome) throw Error(Error::Kind::timeout, kStuck);
  stuck_.reset();
  if (outcome->timed_out) throw Error(Error::Kind::timeout, outcome->error);
  if (!outcome->handle) {
    Error error(Error::Kind::connection, outcome->error, outcome->sqlstate);
    error.refuse_login(outcome->login);
    throw error;
  }
  return Connection(std::move(outcome->handle), parameters_);
}

}  // namespace django_session::pg
