// The command line of django_session_cleanup: words in, a plain struct or a refusal out.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "command_line.hpp"
#include "core/cleanup.hpp"
#include "core/table_name.hpp"
#include "pg/connection.hpp"

namespace django_session::nagios {

struct CleanupCommand {
  enum class Task {
    clean,
    plan,     ///< --dry-run
    abort,    ///< --abort
    nothing,  ///< an event handler's --state that is no reason to act
  };
  Task task = Task::clean;
  pg::Parameters connection;
  TableName table{"", "django_session"};
  CleanupOptions cleanup;
  bool progress = true;
  bool json = false;
  int verbosity = 0;
  std::string state;  ///< "SOFT CRITICAL", for the message of Task::nothing
};

/// `words` are those after the program's name. Of an option given twice the last counts; --max-lag
/// has one limit in bytes and one in time. Throws ConfigError; its message never repeats a word
/// that may be a password.
std::variant<CleanupCommand, Notice> parse_cleanup_command(const std::vector<std::string>& words);

/// Also where the words are wrong.
bool asks_for_json(const std::vector<std::string>& words);

}  // namespace django_session::nagios
