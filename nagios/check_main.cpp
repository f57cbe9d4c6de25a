// check_django_session: reads the command line, measures once, judges, prints one report and exits
// 0 to 3.
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <system_error>

#include "captured_stderr.hpp"
#include "check_options.hpp"
#include "check_report.hpp"
#include "connection_failure.hpp"
#include "core/config_error.hpp"
#include "core/runbook.hpp"
#include "core/sql_name.hpp"
#include "measure/probe.hpp"
#include "pg/bounded_call.hpp"

namespace django_session::nagios {
namespace {

struct CheckResult {
  State state = State::unknown;
  std::string text;
  bool thread_may_be_stuck = false;  ///< in a name lookup that was given up
};

/// What is wrong, what to do, and where to read more.
CheckResult failure(State state, const std::string& message, RunbookSection section,
                    const std::vector<std::string>& next = {}) {
  CheckResult result{state, write_failure(state, message), false};
  for (const std::string& line : next) result.text += further_line(line);
  result.text += further_line(runbook_line(section));
  return result;
}

/// How a person who may change the table gets from this machine to it, or on the primary's machine
/// to the primary. A service file may be this user's alone, and may hold a password that is.
Route route_to(const Measurement& m, const pg::Address& server) {
  Route route{.database = m.table.database, .as_postgres = server.is_local() || m.facts.standby};
  if (m.facts.standby) return route;
  route.host = server.host;
  route.port = server.port;
  if (!route.as_postgres) route.user = m.table.role_is_superuser ? m.table.role : m.table.owner;
  return route;
}

/// This process's user, by the name that sudo takes; by number where a name service doesn't answer.
std::string own_user(pg::Deadline deadline) {
  constexpr std::chrono::milliseconds kNameService{1000};
  const uid_t uid = geteuid();
  const std::string number = fmt::format("#{}", uid);
  try {
    pg::BoundedCall<std::string> asking([uid, number] {
      const passwd* self = getpwuid(uid);
      return self != nullptr ? self->pw_name : number;
    });
    const auto wait = std::min(kNameService, deadline.remaining());
    return asking.wait(pg::Deadline::after(wait)).value_or(number);
  } catch (const std::system_error&) {
    return number;
  }
}

/// The check's own way, for what reads the table. A superuser has none that is safe.
Route way_to_read(const Measurement& m, const pg::Address& server, pg::Deadline deadline) {
  if (m.table.role_is_superuser) return {};
  return {.database = m.table.database,
          .host = server.host,
          .port = server.port,
          .user = m.table.role,
          .system_user = own_user(deadline)};
}

/// What only helps the reader: a failure costs these lines and nothing else.
template <typename Ask>
auto if_answered(Ask ask) -> decltype(ask()) {
  try {
    return ask();
  } catch (const pg::Error&) {
    return {};
  }
}

CheckResult measure(const Options& options, pg::Deadline deadline) {
  using sessions::Counting;
  sessions::Probe probe(options.connection, options.table,
                        options.exact ? Counting::exact : Counting::estimate);
  sessions::Reckoned reckoned = probe.measure(deadline);
  const pg::Address server = probe.address();  // what comes next may lose the connection
  probe.measure_database(reckoned, deadline);
  auto& [measurement, findings] = reckoned;
  const Judgement judgement = judge_table(measurement, findings, options.thresholds);
  Report report{.measurement = measurement,
                .findings = findings,
                .thresholds = options.thresholds,
                .judgement = judgement,
                .verbosity = options.verbosity,
                .server = fmt::format("{}, port {}", server.host, server.port),
                .route = route_to(measurement, server)};
  if (wants_more_lines(judgement.state, options.verbosity)) {
    report.reading = way_to_read(measurement, server, deadline);
    report.session_tables = if_answered([&] { return probe.session_tables(deadline); });
    report.largest_tables = if_answered([&] { return probe.largest_tables(deadline); });
    if (findings.reclaimable && findings.reclaimable->dead > 0)
      measurement.dead_rows_held_by =
          if_answered([&] { return probe.oldest_dead_row_holder(deadline); });
  }
  return {judgement.state, write_report(report), false};
}

/// "timed out while connecting to db1" -> "timed out after 10 s while connecting to db1"
std::string timeout_message(std::string_view message, std::chrono::milliseconds timeout) {
  constexpr std::string_view kTimedOut = "timed out";
  if (message.starts_with(kTimedOut)) message.remove_prefix(kTimedOut.size());
  const double seconds = std::chrono::duration<double>(timeout).count();
  return fmt::format("timed out after {:g} s{}", seconds, message);
}

std::string role_of(const Options& options) {
  return options.connection.user.empty() ? "ROLE" : sql_identifier(options.connection.user);
}

CheckResult connection_failure(const Options& options, const pg::Error& error) {
  const pg::Error::Login& login = error.login();
  const ConnectionFailure explained = explain_connection(error, options.connection);
  CheckResult result =
      login.misses_connect
          ? failure(State::unknown,
                    fmt::format("missing right: GRANT CONNECT ON DATABASE {} TO {}; ({})",
                                sql_identifier(login.database),
                                login.role.empty() ? role_of(options) : sql_identifier(login.role),
                                error.what()),
                    explained.section, explained.next)
          : failure(State::critical, "cannot connect: " + explained.reason, explained.section,
                    explained.next);
  if (!login.misses_connect && explained.reason.find(error.what()) == std::string::npos)
    result.text += further_line(error.what());  // of all hosts, where there are several
  return result;
}

CheckResult timeout_failure(const Options& options, const pg::Error& error) {
  const bool connecting =
      error.looked_up_too_long() ||
      std::string_view(error.what()).find("while connecting") != std::string_view::npos;
  const auto explained = connecting
                             ? explain_connection(error, options.connection)
                             : ConnectionFailure{"", look_at_slow_server(error, options.connection),
                                                 RunbookSection::timed_out};
  CheckResult result = failure(State::critical, timeout_message(error.what(), options.timeout),
                               explained.section, explained.next);
  result.thread_may_be_stuck = true;
  return result;
}

CheckResult statement_failure(const Options& options, const pg::Error& error) {
  if (error.statement_timed_out())
    return failure(State::critical, fmt::format("timed out: {}", error.what()),
                   RunbookSection::timed_out, look_at_slow_server(error, options.connection));
  if (!error.insufficient_privilege())
    return failure(State::unknown, error.what(), RunbookSection::other_error);
  // Not on the table: of that the reading knows, and says so. An administrator has revoked a right
  // on the system's functions or catalogues from PUBLIC.
  return failure(State::unknown,
                 fmt::format("role {} lacks a right: {}", role_of(options), error.what()),
                 RunbookSection::missing_right);
}

CheckResult check(const Options& options) try {
  return measure(options, pg::Deadline::after(options.timeout));
} catch (const sessions::NoSuchTable& error) {
  return failure(State::unknown, error.what(), RunbookSection::no_table);
} catch (const pg::Error& error) {
  switch (error.kind()) {
    case pg::Error::Kind::timeout:
      return timeout_failure(options, error);
    case pg::Error::Kind::connection:
      return connection_failure(options, error);
    case pg::Error::Kind::statement:
      break;
  }
  return statement_failure(options, error);
}

CheckResult run(const std::vector<std::string>& words) try {
  const auto parsed = parse_options(words);
  if (const auto* notice = std::get_if<Notice>(&parsed))
    return {State::unknown, notice->text, false};
  const CapturedStderr captured;
  CheckResult result = check(std::get<Options>(parsed));
  const std::string complaint = captured.text();
  if (!complaint.empty() && result.state != State::ok)
    result.text += further_line("libpq: " + complaint);
  return result;
} catch (const ConfigError& error) {
  return failure(State::unknown, error.what(), RunbookSection::options);
} catch (const std::exception& error) {
  return failure(State::unknown, fmt::format("internal error: {}", error.what()),
                 RunbookSection::other_error);
}

/// Prints, and returns the exit code: what nobody could read is UNKNOWN.
int deliver(const CheckResult& result) {
  const bool written =
      std::fwrite(result.text.data(), 1, result.text.size(), stdout) == result.text.size();
  if (std::fflush(stdout) != 0 || !written) return static_cast<int>(State::unknown);
  return static_cast<int>(result.state);
}

}  // namespace
}  // namespace django_session::nagios

int main(int argc, char** argv) {
  using namespace django_session;
  constexpr int kUnknown = static_cast<int>(State::unknown);
  // Without a stdout the server's socket would become descriptor 1.
  if (fcntl(STDOUT_FILENO, F_GETFD) == -1) return kUnknown;
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const nagios::CheckResult result = nagios::run({argv + std::min(argc, 1), argv + argc});
    const int code = nagios::deliver(result);
    if (result.thread_may_be_stuck)
      std::_Exit(code);  // it may be using what exit() would tear down
    return code;
  } catch (...) {  // out of memory, even for the message
    constexpr std::string_view kMessage = "DJANGO_SESSION UNKNOWN - out of memory\n";
    static_cast<void>(!write(STDOUT_FILENO, kMessage.data(), kMessage.size()));
    std::_Exit(kUnknown);
  }
}
