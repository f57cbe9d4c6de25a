// From a shell on this machine to a database, for the commands that we print.
#pragma once

#include <string>
#include <vector>

namespace django_session {

/// How to reach a database: as a role that may change the session table, or as one that reads it.
struct Route {
  std::string database{};      ///< empty: the one that libpq takes
  std::string host{}, port{};  ///< as the connection used them; empty: libpq's default
  std::string user{};          ///< empty: the one that libpq takes
  bool as_postgres = false;    ///< by `sudo -u postgres`, for whom servers let their own machine in
  std::string system_user{};   ///< else by `sudo -u` this one; empty: by the shell's own
};

/// `text` as one word for a shell, with escapes ($'...') where it would be changed to be printed.
std::string shell_word(const std::string& text);

/// A table as -T takes it, as one word for a shell: letters as they are, quotes around a name with a
/// dot or a quote in it.
std::string table_word(const std::string& schema, const std::string& table);

/// A complete command: `psql`, its options, and `words`, quoted already.
std::string psql_command(const Route& route, const std::string& words);
/// The same with a statement. It leaves no setting behind in the connection, which a pooler gives to
/// others.
std::string psql_statement(const Route& route, const std::string& statement);
/// The same where others would queue behind a wait for the table's lock: that ends after two seconds.
std::string psql_unless_locked(const Route& route, const std::string& statement);
/// The file that makes our roles, where it is installed.
std::string roles_file();
/// A complete command: `django_session_cleanup`, its options, and `words`, quoted already.
std::string cleanup_command(const Route& route, const std::string& words);

}  // namespace django_session
