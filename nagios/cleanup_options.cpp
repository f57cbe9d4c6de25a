// The options of the cleanup, their limits, and its --help.
#include "cleanup_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "core/metric.hpp"
#include "core/quantity.hpp"
#include "core/secret.hpp"

namespace django_session::nagios {
namespace {

using std::chrono::milliseconds;

constexpr double kMinute = 60, kDay = 24 * 3600, kYear = 365 * kDay;  // seconds

constexpr const char* kFooter =
    R"(Methods:
  delete  expired sessions in small batches, VACUUM, REINDEX CONCURRENTLY of bloated indexes.
          Gives back index space; space in the table is reused.
  swap    copies the live sessions into a new table while logging what changes, then exchanges the
          two under a lock of milliseconds. Gives back everything.
  full    delete, then VACUUM (FULL, ANALYZE): blocks the site while the table is rewritten.
  auto    swap where it is possible and worthwhile, else delete; never full.

Durations are seconds, or have a unit: 30s, 10m, 2h, 7d, 1w. Sizes: 64MB, 1GB.
It can be stopped at any moment (Ctrl-C, SIGTERM, kill) and run again.

Examples:
  django_session_cleanup -d site --dry-run
  django_session_cleanup -d site -U django_session_cleaner --method delete --keep 1d
  django_session_cleanup -H db1 -d site -T accounts.custom_session --max-duration 30m --max-lag 64MB

Passwords belong in ~/.pgpass or a service file, never on the command line.
Exit codes: 0 done, 1 stopped before the end (safe to run again), 2 failed,
            3 bad arguments or refused)";

struct CleanupLine : CommandLine {
  CleanupLine()
      : CommandLine("django_session_cleanup",
                    "Deletes expired Django sessions from PostgreSQL and gives their space back, "
                    "without downtime.") {
    footer(kFooter);
  }

  CLI::Option* timeout = value("-t,--timeout", "SECONDS",
                               "Time limit for connecting and for each quick answer (default: 10)");
  CLI::Option* method = value("--method", "METHOD", "auto (default), delete, swap or full");
  CLI::Option* keep = value("--keep", "DURATION",
                            "Keep sessions that expired less than this long ago (default: 0)");
  CLI::Option* dry_run = flag("--dry-run", "Change nothing; print what would be done, and why");
  CLI::Option* rehearse =
      flag("--rehearse",
           "Do all of a swap but the exchange, remove it again, and say what it "
           "took");
  CLI::Option* max_duration =
      value("--max-duration", "DURATION", "Stop after this time (default: no limit)");
  CLI::Option* lock_timeout =
      value("--lock-timeout", "DURATION",
            "Time limit for each attempt at an exclusive lock (default: 0.1, in seconds)");
  CLI::Option* max_lag =
      value("--max-lag", "BYTES|DURATION",
            "Wait while a replica, a slot or the archiver is further behind (default: 1GB)");
  CLI::Option* max_clock_skew = value(
      "--max-clock-skew", "DURATION",
      "Clean nothing if the server's clock differs from this machine's by more (default: 60)");
  CLI::Option* abort = flag("--abort", "Only remove what an interrupted run left");
  CLI::Option* no_progress = flag("--no-progress", "Show no progress");
  CLI::Option* json =
      flag("--json", "Print the plan or the result as one JSON object, and nothing else");
  CLI::Option* state =
      value("--state", "STATE", "As an event handler, $SERVICESTATE$: act on CRITICAL and WARNING");
  CLI::Option* state_type =
      value("--state-type", "TYPE", "As an event handler, $SERVICESTATETYPE$: act on HARD");
  CLI::Option* verbose =
      flag("-v,--verbose", "Print the plan first; with --dry-run, the SQL below it");
};

/// A duration between two limits, in seconds.
double read_seconds(const CLI::Option* option, const std::string& text, double least, double most) {
  const double seconds = read_value(option, [&] { return parse_quantity(text, Unit::seconds); });
  if (least <= seconds && seconds <= most) return seconds;
  throw ConfigError(fmt::format("{}: {} is out of range: it must be between {:g} and {:g} seconds",
                                name_of(option), repeatable(text), least, most));
}

milliseconds to_milliseconds(double seconds) {
  return milliseconds(static_cast<long long>(std::ceil(seconds * 1000)));
}

std::optional<milliseconds> read_duration(const CLI::Option* option, double least, double most) {
  const auto text = last_of(option);
  if (!text) return std::nullopt;
  return to_milliseconds(read_seconds(option, *text, least, most));
}

/// What a --max-lag is measured in, by its last letter. "5m" could be minutes or megabytes.
Unit unit_of_lag(const CLI::Option* option, const std::string& text) {
  const int last = text.empty() ? 0 : std::tolower(static_cast<unsigned char>(text.back()));
  if (last == 'b' || last == 'k' || last == 'g' || last == 't') return Unit::bytes;
  if (last == 's' || last == 'h' || last == 'd' || last == 'w') return Unit::seconds;
  throw ConfigError(
      fmt::format("{}: \"{}\" is not clearly a size or a duration; write 64MB or 30s, for example",
                  name_of(option), repeatable(text)));
}

double read_lag_bytes(const CLI::Option* option, const std::string& text) {
  const double bytes = read_value(option, [&] { return parse_quantity(text, Unit::bytes); });
  if (bytes <= 0)
    throw ConfigError(fmt::format("{}: {} is out of range: it must be more than 0", name_of(option),
                                  repeatable(text)));
  return bytes;
}

LagLimit read_max_lag(const CLI::Option* option) {
  LagLimit limit;
  for (const std::string& text : all_of(option)) {
    if (unit_of_lag(option, text) == Unit::bytes)
      limit.bytes = read_lag_bytes(option, text);
    else
      limit.time = to_milliseconds(read_seconds(option, text, 0.001, kDay));
  }
  return limit;
}

CleanupOptions read_cleanup(const CleanupLine& line) {
  CleanupOptions options;
  options.answer_timeout = read_timeout(line.timeout, options.answer_timeout);
  if (const auto text = last_of(line.method))
    options.method = read_value(line.method, [&] { return parse_method(*text); });
  if (const auto keep = read_duration(line.keep, 0, 100 * kYear))
    options.keep = std::chrono::ceil<std::chrono::seconds>(*keep);
  options.max_duration = read_duration(line.max_duration, 0.001, kYear);
  if (const auto timeout = read_duration(line.lock_timeout, 0.001, kMinute))
    options.lock_timeout = *timeout;
  options.max_lag = read_max_lag(line.max_lag);
  options.rehearse = count_of(line.rehearse) > 0;
  if (const auto skew = read_duration(line.max_clock_skew, 0.001, 100 * kYear))
    options.max_clock_skew = *skew;
  return options;
}

template <std::size_t N>
std::string read_word(const CLI::Option* option, const std::array<std::string_view, N>& words) {
  std::string text = text_of(option, words.back());
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (std::find(words.begin(), words.end(), text) != words.end()) return text;
  throw ConfigError(fmt::format("{}: \"{}\" is not one of {}", name_of(option), repeatable(text),
                                fmt::join(words, ", ")));
}

/// Not given: act. As an event handler: only on what has been confirmed by all check attempts.
bool read_state(const CleanupLine& line, CleanupCommand& command) {
  constexpr std::array<std::string_view, 4> kStates = {"OK", "WARNING", "UNKNOWN", "CRITICAL"};
  constexpr std::array<std::string_view, 2> kTypes = {"SOFT", "HARD"};
  const bool has_state = count_of(line.state) > 0, has_type = count_of(line.state_type) > 0;
  if (!has_state && !has_type) return true;
  if (!has_state || !has_type)
    throw ConfigError(
        "--state and --state-type must be given together: --state '$SERVICESTATE$' "
        "--state-type '$SERVICESTATETYPE$'");
  const std::string state = read_word(line.state, kStates),
                    type = read_word(line.state_type, kTypes);
  command.state = type + " " + state;
  return type == "HARD" && (state == "CRITICAL" || state == "WARNING");
}

void refuse_contradictions(const CleanupLine& line) {
  if (count_of(line.rehearse) > 0 && count_of(line.dry_run) > 0)
    throw ConfigError(
        "--rehearse can't be combined with --dry-run: one makes a copy, the other changes nothing");
  if (count_of(line.abort) == 0) return;
  for (const CLI::Option* other :
       {line.dry_run, line.rehearse, line.method, line.keep, line.max_lag, line.max_clock_skew})
    if (count_of(other) > 0)
      throw ConfigError(fmt::format(
          "--abort can't be combined with {}: it only removes what an interrupted run left",
          name_of(other)));
}

CleanupCommand read_command(const CleanupLine& line) {
  CleanupCommand command;
  command.connection = line.connection("django_session_cleaner");
  command.table = line.table(command.table);
  command.cleanup = read_cleanup(line);
  command.progress = count_of(line.no_progress) == 0;
  command.json = count_of(line.json) > 0;
  command.verbosity = count_of(line.verbose);
  refuse_contradictions(line);
  if (count_of(line.dry_run) > 0) command.task = CleanupCommand::Task::plan;
  if (count_of(line.abort) > 0) command.task = CleanupCommand::Task::abort;
  if (!read_state(line, command)) command.task = CleanupCommand::Task::nothing;
  return command;
}

}  // namespace

std::variant<CleanupCommand, Notice> parse_cleanup_command(const std::vector<std::string>& words) {
  CleanupLine line;
  if (auto notice = line.parse(words)) return *notice;
  return read_command(line);
}

bool asks_for_json(const std::vector<std::string>& words) {
  return std::find(words.begin(), words.end(), "--json") != words.end();
}

}  // namespace django_session::nagios
