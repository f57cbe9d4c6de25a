// CLI11 splits the words; what they mean is read by the same functions as everywhere else.
#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <optional>

#include "core/config_error.hpp"
#include "core/quantity.hpp"

namespace django_session::nagios {
namespace {

constexpr double kLongestTimeout = 24 * 3600;  // seconds

constexpr std::string_view kKnownOptions =
    "-H, -p, -d, -U, --service, -T, -w, -c, -t, --exact, -v, -V and -h";

std::string metrics_for_help() {
  std::string text = "Metrics:\n";
  for (const MetricInfo& metric : all_metrics())
    text += fmt::format("  {:<17} {}, for example {}\n", metric.name, metric.meaning,
                        quantity_example(metric.unit));
  return text;
}

std::string footer() {
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
class CommandLine {
  // First, because the options are made in it.
  CLI::App app_{
      "Watches the table of Django's sessions in PostgreSQL: sizes, expired sessions, and "
      "what a cleanup would give back."};

 public:
  CommandLine() {
    app_.name("check_django_session");
    app_.footer(footer());
    app_.get_formatter()->column_width(34);
    app_.set_help_flag("-h,--help", "This text");
    app_.set_version_flag("-V,--version", "check_django_session " DJANGO_SESSION_VERSION,
                          "The version");
    app_.allow_extras();
  }

  void parse(const std::vector<std::string>& words) {
    std::vector<std::string> reversed = split_empty_values(words);
    std::reverse(reversed.begin(), reversed.end());
    app_.parse(std::move(reversed));
  }

  std::string help() const { return app_.help(); }
  std::vector<std::string> unknown_words() const { return app_.remaining(); }

  CLI::Option* host = value("-H,--host", "HOST", "Server's name, address or socket folder");
  CLI::Option* port = value("-p,--port", "PORT", "Its port");
  CLI::Option* dbname =
      value("-d,--dbname", "DBNAME", "Database, or a connection string, or a postgresql:// URI");
  CLI::Option* username = value("-U,--username", "USER", "Role to log in as");
  CLI::Option* service = value("--service", "NAME", "Service of libpq's service file");
  CLI::Option* table =
      value("-T,--table", "[SCHEMA.]TABLE", "The session table (default: django_session)");
  CLI::Option* warning = value("-w,--warning", "[METRIC=]RANGE",
                               "WARNING outside this range (repeatable; METRIC default: total)");
  CLI::Option* critical =
      value("-c,--critical", "[METRIC=]RANGE", "CRITICAL outside this range (repeatable)");
  CLI::Option* timeout =
      value("-t,--timeout", "SECONDS", "Time for everything together (default: 10)");
  CLI::Option* exact = flag("--exact", "Count the sessions; the default is to estimate");
  CLI::Option* verbose =
      flag("-v,--verbose", "More lines; -vv also the thresholds, -vvv the connection");

 private:
  CLI::Option* value(const std::string& names, const std::string& kind,
                     const std::string& meaning) {
    return app_.add_option(names, CLI::callback_t(), meaning)
        ->type_name(kind)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  CLI::Option* flag(const std::string& names, const std::string& meaning) {
    return app_.add_flag(names, meaning)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  /// CLI11 takes the next word for the value of `--table=`, and reads `--exact=no` as false.
  std::vector<std::string> split_empty_values(const std::vector<std::string>& words) const {
    std::vector<std::string> result;
    for (const std::string& word : words) {
      const auto equals = word.find('=');
      const CLI::Option* option = word.starts_with("--") && equals != std::string::npos
                                      ? app_.get_option_no_throw(word.substr(0, equals))
                                      : nullptr;
      if (option != nullptr && option->get_items_expected_max() == 0)
        throw ConfigError(word.substr(0, equals) + " takes no value");
      if (option != nullptr && equals + 1 == word.size()) {
        result.push_back(word.substr(0, equals));
        result.emplace_back();
      } else {
        result.push_back(word);
      }
    }
    return result;
  }
};

/// The name that a person would type first: "-w".
std::string name_of(const CLI::Option* option) {
  const auto& short_names = option->get_snames();
  return short_names.empty() ? "--" + option->get_lnames().front() : "-" + short_names.front();
}

std::optional<std::string> last_of(const CLI::Option* option) {
  if (option->results().empty()) return std::nullopt;
  return option->results().back();
}

/// An empty value is usually a macro without a value; libpq would quietly take its default, and so
/// another database.
std::string text_of(const CLI::Option* option, std::string_view example) {
  const auto text = last_of(option);
  if (!text) return "";
  if (text->empty())
    throw ConfigError(
        fmt::format("{}: the value is empty; give one, for example {} {}, or leave {} out",
                    name_of(option), name_of(option), example, name_of(option)));
  return *text;
}

/// Runs a reader whose message lacks the option's name.
template <class Reader>
auto read_value(const CLI::Option* option, Reader reader) {
  try {
    return reader();
  } catch (const ConfigError& error) {
    throw ConfigError(name_of(option) + ": " + error.what());
  }
}

bool is_port(std::string_view text) {
  if (text.empty() || text.size() > 5) return false;
  int number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = 10 * number + (c - '0');
  }
  return 1 <= number && number <= 65535;
}

/// One port, or one for each host of a list, as in libpq.
bool are_ports(std::string_view text) {
  for (;;) {
    const auto comma = text.find(',');
    if (!is_port(text.substr(0, comma))) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

std::string read_port(const CLI::Option* option) {
  const auto text = last_of(option);
  if (!text) return "";
  if (!are_ports(*text))
    throw ConfigError(
        "-p: a port is a number from 1 to 65535, for example 5432 (not repeated: it may be a "
        "password)");
  return *text;
}

std::string read_dbname(const CLI::Option* option) {
  const std::string text = text_of(option, "site");
  read_value(option, [&text] { pg::check_conninfo(text, false); });
  return text;
}

std::chrono::milliseconds read_timeout(const CLI::Option* option) {
  const auto text = last_of(option);
  if (!text) return Options().timeout;
  const double seconds = read_value(option, [&] { return parse_quantity(*text, Unit::seconds); });
  if (seconds <= 0 || seconds > kLongestTimeout)
    throw ConfigError(
        fmt::format("-t: {} seconds is not a time limit: it must be more than 0 and at most "
                    "a day, for example -t 10",
                    plain_number(seconds, Unit::seconds)));
  return std::chrono::milliseconds(static_cast<long long>(std::ceil(seconds * 1000)));
}

void read_thresholds(const CLI::Option* option, State severity,
                     std::vector<Threshold>& thresholds) {
  for (const std::string& text : option->results())
    thresholds.push_back(read_value(option, [&] { return parse_threshold(text, severity); }));
}

/// "--password=secret" -> "--password", "-Psecret" -> "-P".
std::string option_name_in(const std::string& word) {
  return word.starts_with("--") ? word.substr(0, word.find('=')) : word.substr(0, 2);
}

bool is_name(std::string_view word) {
  return std::all_of(word.begin(), word.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

void refuse_unknown(const std::vector<std::string>& words) {
  if (words.empty()) return;
  const std::string name = option_name_in(words.front());
  if (name.size() > 1 && name.front() == '-' && name != "--" && is_name(name))
    throw ConfigError(
        fmt::format("unknown option {}; the options are {}", name.substr(0, 40), kKnownOptions));
  throw ConfigError(
      "a word belongs to no option (not repeated here, it may be a password); each value follows "
      "its "
      "option, for example -d site -T public.django_session; see -h");
}

Options read_options(const CommandLine& line) {
  Options options;
  options.connection.port = read_port(line.port);  // first: what follows may be a password's rest
  refuse_unknown(line.unknown_words());
  options.connection.host = text_of(line.host, "db1");
  options.connection.dbname = read_dbname(line.dbname);
  options.connection.user = text_of(line.username, "django_session_monitor");
  options.connection.service = text_of(line.service, "site");
  if (const auto text = last_of(line.table))
    options.table = read_value(line.table, [&] { return parse_table_name(*text); });
  read_thresholds(line.warning, State::warning, options.thresholds);
  read_thresholds(line.critical, State::critical, options.thresholds);
  if (options.thresholds.empty()) options.thresholds = default_thresholds();
  options.timeout = read_timeout(line.timeout);
  options.exact = line.exact->count() > 0;
  options.verbosity = static_cast<int>(line.verbose->count());
  return options;
}

}  // namespace

std::variant<Options, Notice> parse_options(const std::vector<std::string>& words) {
  CommandLine line;
  try {
    line.parse(words);
  } catch (const CLI::CallForHelp&) {
    return Notice{line.help()};
  } catch (const CLI::CallForVersion& version) {
    return Notice{std::string(version.what()) + "\n"};
  } catch (const CLI::ArgumentMismatch&) {  // the only mismatch left: the last word wants a value
    throw ConfigError(
        fmt::format("the value after {} is missing; see -h", option_name_in(words.back())));
  } catch (const CLI::ParseError& error) {
    throw ConfigError(fmt::format("{}; see -h", error.what()));
  }
  return read_options(line);
}

}  // namespace django_session::nagios
