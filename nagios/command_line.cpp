// CLI11 splits the words; what they mean is read by the same functions as everywhere else.
#include "command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "core/quantity.hpp"
#include "core/secret.hpp"

namespace django_session::nagios {
namespace {

constexpr double kLongestTimeout = 24 * 3600;  // seconds

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
  read_value(option, [&text] { pg::refuse_password_in(text); });
  return text;
}

/// Names only: libpq's and the server's messages would repeat what else is in it.
void refuse_password(const CLI::Option* option, bool may_hold_one) {
  if (may_hold_one)
    throw ConfigError(
        fmt::format("{}: the value may hold a password (not repeated here); give only a name here, "
                    "and put passwords into a password file (~/.pgpass)",
                    name_of(option)));
}

std::string read_host(const CLI::Option* option) {
  // Icinga and Nagios pass a macro without a value as an empty word: libpq's default.
  const std::string text = last_of(option).value_or("");
  refuse_password(option, host_may_hold_password(text));
  return text;
}

std::string read_name(const CLI::Option* option, std::string_view example) {
  const std::string text = text_of(option, example);
  refuse_password(option, may_hold_password(text));
  return text;
}

/// "--password=secret" -> "--password", "-Psecret" -> "-P".
std::string option_name_in(const std::string& word) {
  return word.starts_with("--") ? word.substr(0, word.find('=')) : word.substr(0, 2);
}

bool is_name(std::string_view word) {
  return std::all_of(word.begin(), word.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

CommandLine::CommandLine(const std::string& program, const std::string& description)
    : app_(std::make_unique<CLI::App>(description)) {
  app_->name(program);
  app_->get_formatter()->column_width(34);
  app_->set_help_flag("-h,--help", "Print this help");
  app_->set_version_flag("-V,--version", program + " " DJANGO_SESSION_VERSION, "Print the version");
  app_->allow_extras();
  host_ = value("-H,--host", "HOST", "Server's name, address or socket directory");
  port_ = value("-p,--port", "PORT", "Server port");
  dbname_ = value("-d,--dbname", "DBNAME", "Database, connection string or postgresql:// URI");
  username_ = value("-U,--username", "USER", "Role to log in as");
  service_ = value("--service", "NAME", "Section of libpq's service file");
  table_ = value("-T,--table", "[SCHEMA.]TABLE", "The session table (default: django_session)");
}

CommandLine::~CommandLine() = default;

CLI::Option* CommandLine::value(const std::string& names, const std::string& kind,
                                const std::string& meaning) {
  return app_->add_option(names, CLI::callback_t(), meaning)
      ->type_name(kind)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* CommandLine::flag(const std::string& names, const std::string& meaning) {
  return app_->add_flag(names, meaning)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandLine::footer(const std::string& text) { app_->footer(text); }

std::optional<Notice> CommandLine::parse(const std::vector<std::string>& words) {
  try {
    std::vector<std::string> reversed = split_empty_values(words);
    std::reverse(reversed.begin(), reversed.end());
    app_->parse(std::move(reversed));
    return std::nullopt;
  } catch (const CLI::CallForHelp&) {
    return Notice{app_->help()};
  } catch (const CLI::CallForVersion& version) {
    return Notice{std::string(version.what()) + "\n"};
  } catch (const CLI::ArgumentMismatch&) {  // the only mismatch left: the last word wants a value
    throw ConfigError(fmt::format("{} needs a value; see -h", option_name_in(words.back())));
  } catch (const CLI::ParseError& error) {
    throw ConfigError(fmt::format("{}; see -h", error.what()));
  }
}

/// CLI11 takes the next word for the value of `--table=`, and reads `--exact=no` as false.
std::vector<std::string> CommandLine::split_empty_values(
    const std::vector<std::string>& words) const {
  std::vector<std::string> result;
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    const CLI::Option* option = word.starts_with("--") && equals != std::string::npos
                                    ? app_->get_option_no_throw(word.substr(0, equals))
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

/// "-H, -p ... --exact, -v, -V and -h": in the order of --help, but these two last, as in every
/// plugin.
std::string CommandLine::known_options() const {
  std::string text;
  for (const CLI::Option* option : app_->get_options())
    if (option != app_->get_help_ptr() && option != app_->get_version_ptr())
      text += name_of(option) + ", ";
  return text.substr(0, text.size() - 2) + ", -V and -h";
}

void CommandLine::refuse_unknown(const std::vector<std::string>& words) const {
  if (words.empty()) return;
  const std::string name = option_name_in(words.front());
  if (name.size() > 1 && name.front() == '-' && name != "--" && is_name(name))
    throw ConfigError(fmt::format("unknown option {}; valid options are {}", name.substr(0, 40),
                                  known_options()));
  throw ConfigError(
      "unexpected argument (not repeated here: it may be a password); each value follows "
      "its option, for example -d site -T public.django_session; see -h");
}

pg::Parameters CommandLine::connection(std::string_view example_role) const {
  pg::Parameters connection;
  connection.port = read_port(port_);  // first: what follows may be a password's rest
  refuse_unknown(app_->remaining());
  connection.host = read_host(host_);
  connection.dbname = read_dbname(dbname_);
  connection.user = read_name(username_, example_role);
  connection.service = read_name(service_, "site");
  return connection;
}

TableName CommandLine::table(const TableName& otherwise) const {
  const auto text = last_of(table_);
  if (!text) return otherwise;
  return read_value(table_, [&text] { return parse_table_name(*text); });
}

std::string name_of(const CLI::Option* option) {
  const auto& short_names = option->get_snames();
  return short_names.empty() ? "--" + option->get_lnames().front() : "-" + short_names.front();
}

int count_of(const CLI::Option* option) { return static_cast<int>(option->count()); }

std::vector<std::string> all_of(const CLI::Option* option) { return option->results(); }

std::optional<std::string> last_of(const CLI::Option* option) {
  if (option->results().empty()) return std::nullopt;
  return option->results().back();
}

std::string text_of(const CLI::Option* option, std::string_view example) {
  const auto text = last_of(option);
  if (!text) return "";
  if (text->empty())
    throw ConfigError(
        fmt::format("{}: the value is empty; give one, for example {} {}, or leave {} out",
                    name_of(option), name_of(option), example, name_of(option)));
  return *text;
}

std::chrono::milliseconds read_timeout(const CLI::Option* option,
                                       std::chrono::milliseconds otherwise) {
  const auto text = last_of(option);
  if (!text) return otherwise;
  const double seconds = read_value(option, [&] { return parse_quantity(*text, Unit::seconds); });
  if (seconds <= 0 || seconds > kLongestTimeout)
    throw ConfigError(
        fmt::format("-t: {} seconds is out of range: it must be more than 0 and at most a day, for "
                    "example -t 10",
                    plain_number(seconds, Unit::seconds)));
  return std::chrono::milliseconds(static_cast<long long>(std::ceil(seconds * 1000)));
}

}  // namespace django_session::nagios
