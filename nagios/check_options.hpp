// The command line of check_django_session: words in, a plain struct or a refusal out.
#pragma once

#include <chrono>
#include <string>
#include <variant>
#include <vector>

#include "command_line.hpp"
#include "core/table_name.hpp"
#include "core/threshold.hpp"
#include "pg/connection.hpp"

namespace django_session::nagios {

struct Options {
  pg::Parameters connection;
  TableName table{"", "django_session"};
  std::vector<Threshold> thresholds;         ///< default_thresholds() where none was given
  std::chrono::milliseconds timeout{10000};  ///< for everything: connect, lock, query
  bool exact = false;                        ///< count instead of estimating
  int verbosity = 0;
};

/// `words` are those after the program's name. Of an option given twice the last counts, but all of
/// -w and -c. Throws ConfigError; its message never repeats a word that may be a password.
std::variant<Options, Notice> parse_options(const std::vector<std::string>& words);

}  // namespace django_session::nagios
