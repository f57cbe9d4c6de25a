// What can go wrong between us and PostgreSQL.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace django_session::pg {

/// `what()` is one line: the server's primary message or libpq's own. Never its DETAIL, which may
/// quote row contents.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    statement,   ///< the server refused a statement; the connection is fine
    connection,  ///< could not connect, or the connection is gone
    timeout,     ///< our deadline passed; the connection was given up
  };

  Error(Kind kind, const std::string& message, std::string sqlstate = "")
      : std::runtime_error(message), kind_(kind), sqlstate_(std::move(sqlstate)) {}

  Kind kind() const { return kind_; }
  const std::string& sqlstate() const { return sqlstate_; }

  static constexpr const char* kLockNotAvailable = "55P03";
  bool lock_not_available() const { return sqlstate_ == kLockNotAvailable; }
  /// Our deadline passed before anything was sent to a server.
  static constexpr const char* kLookingUp = "looking up the server's name or credentials";
  bool looked_up_too_long() const {
    return std::string_view(what()).find(kLookingUp) != std::string_view::npos;
  }
  /// The server chose us.
  bool deadlock() const { return sqlstate_ == "40P01"; }
  bool statement_timed_out() const { return sqlstate_ == "57014"; }
  static constexpr const char* kInsufficientPrivilege = "42501";
  bool insufficient_privilege() const { return sqlstate_ == kInsufficientPrivilege; }
  /// The server, or code that it runs, says that a page of the table or of an index is damaged.
  bool corrupted() const { return sqlstate_ == "XX001" || sqlstate_ == "XX002"; }
  bool file_missing() const { return sqlstate_ == "58P01"; }
  bool damaged() const { return corrupted() || file_missing(); }
  bool undefined_table() const { return sqlstate_ == "42P01"; }
  /// A name has a character that the connection's encoding lacks.
  bool untranslatable_character() const { return sqlstate_ == "22P05"; }

  /// What was tried, as far as it is known; "" where the text may be a password.
  struct Login {
    std::string role, database;
    /// Of the server's source: it refused, which tells one kind from another in every language.
    std::string function;
    bool misses_connect = false;  ///< the role may not CONNECT to the database
  };
  const Login& login() const { return login_; }
  void refuse_login(Login login) { login_ = std::move(login); }

 private:
  Kind kind_;
  std::string sqlstate_;
  Login login_;
};

}  // namespace django_session::pg
