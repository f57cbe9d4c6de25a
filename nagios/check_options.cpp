// The options of the check, and its --help.
#include "check_options.hpp"

#include <fmt/format.h>

#include "core/quantity.hpp"

namespace django_session::nagios {
namespace {

std::string metrics_for_help() {
  std::string text = "Metrics:\n";
  for (const MetricInfo& metric : all_metrics())
    text += fmt::format("  {:<17} {}, for example {}\n", metric.name, metric.meaning,
                        info(metric.unit).quantity_example);
  return text;
}

std::string footer_of_help() {
  return metrics_for_help() +
         "\nRanges as in every Nagios plugin, [@][start:]end, with units: 1GB:5GB, @10:20, ~:0, "
         "2d\n"
         "Without thresholds: -w overdue=2d -w reclaimable=1GB -c reclaimable=10GB\n"
         "\nExamples:\n"
         "  check_django_session -H db1 -d site -U django_session_monitor\n"
         "  check_django_session -d site -T accounts.custom_session -c total=20GB -w "
         "expired_percent=50\n"
         "\nPasswords belong in ~/.pgpass or a service file, never on the command line.\n"
         "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";
}

/// The options that are there, by the names of their values.
struct CheckLine : CommandLine {
  CheckLine()
      : CommandLine("check_django_session",
                    "Checks Django's session table in PostgreSQL: sizes, expired sessions, and "
                    "what a cleanup would give back.") {
    footer(footer_of_help());
  }

  CLI::Option* warning = value("-w,--warning", "[METRIC=]RANGE",
                               "WARNING outside this range (repeatable; METRIC default: total)");
  CLI::Option* critical =
      value("-c,--critical", "[METRIC=]RANGE", "CRITICAL outside this range (repeatable)");
  CLI::Option* timeout = value("-t,--timeout", "SECONDS", "Overall time limit (default: 10)");
  CLI::Option* exact = flag("--exact", "Count the sessions instead of estimating");
  CLI::Option* verbose =
      flag("-v,--verbose", "Print more lines; -vv adds the thresholds, -vvv the connection");
};

void read_thresholds(const CLI::Option* option, State severity,
                     std::vector<Threshold>& thresholds) {
  for (const std::string& text : all_of(option))
    thresholds.push_back(read_value(option, [&] { return parse_threshold(text, severity); }));
}

Options read_options(const CheckLine& line) {
  Options options;
  options.connection = line.connection("django_session_monitor");
  options.table = line.table(options.table);
  read_thresholds(line.warning, State::warning, options.thresholds);
  read_thresholds(line.critical, State::critical, options.thresholds);
  if (options.thresholds.empty()) options.thresholds = default_thresholds();
  options.timeout = read_timeout(line.timeout, options.timeout);
  options.exact = count_of(line.exact) > 0;
  options.verbosity = count_of(line.verbose);
  return options;
}

}  // namespace

std::variant<Options, Notice> parse_options(const std::vector<std::string>& words) {
  CheckLine line;
  if (auto notice = line.parse(words)) return *notice;
  return read_options(line);
}

}  // namespace django_session::nagios
