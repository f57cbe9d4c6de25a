// What the command lines of both programs have in common: how words are split, the options of the
// connection, and how values are read. The only user of CLI11.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_error.hpp"
#include "core/table_name.hpp"
#include "pg/connection.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace django_session::nagios {

/// What -h or -V asked for, to be printed as it is.
struct Notice {
  std::string text;
};

/// The options that there are. Made with those of the connection (-H, -p, -d, -U, --service) and
/// -T; a program adds its own before it parses. All messages of ConfigError name the option, and
/// never repeat a word that may be a password.
class CommandLine {
 public:
  CommandLine(const std::string& program, const std::string& description);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Of an option given twice the last counts, unless the program reads all_of() it.
  CLI::Option* value(const std::string& names, const std::string& kind, const std::string& meaning);
  CLI::Option* flag(const std::string& names, const std::string& meaning);
  void footer(const std::string& text);

  /// Nothing, or what -h or -V asked for. `words` are those after the program's name.
  std::optional<Notice> parse(const std::vector<std::string>& words);

  /// To be read first: it also refuses words that belong to no option. `example_role` is for
  /// messages.
  pg::Parameters connection(std::string_view example_role) const;
  TableName table(const TableName& otherwise) const;

 private:
  std::vector<std::string> split_empty_values(const std::vector<std::string>& words) const;
  void refuse_unknown(const std::vector<std::string>& words) const;
  std::string known_options() const;

  std::unique_ptr<CLI::App> app_;
  CLI::Option *host_, *port_, *dbname_, *username_, *service_, *table_;
};

/// The name that a person would type first: "-w".
std::string name_of(const CLI::Option* option);
int count_of(const CLI::Option* option);
std::vector<std::string> all_of(const CLI::Option* option);
std::optional<std::string> last_of(const CLI::Option* option);

/// "" without the option. Its value may not be empty: that is usually a macro without a value, and
/// libpq would quietly take its default, and so another database.
std::string text_of(const CLI::Option* option, std::string_view example);

/// Runs a reader whose message lacks the option's name.
template <class Reader>
auto read_value(const CLI::Option* option, Reader reader) {
  try {
    return reader();
  } catch (const ConfigError& error) {
    throw ConfigError(name_of(option) + ": " + error.what());
  }
}

/// More than nothing, at most a day.
std::chrono::milliseconds read_timeout(const CLI::Option* option,
                                       std::chrono::milliseconds otherwise);

}  // namespace django_session::nagios
