// What libpq says when a login fails, taken apart: while connecting, it hands over no result to ask
// for the fields of the server's error, but its longest form of the message has them.
#pragma once

#include <string>
#include <string_view>

namespace django_session::pg {

struct LoginError {
  std::string message;   ///< libpq's words, with the server's; no SQLSTATE, no place in its source
  std::string sqlstate;  ///< "" where the server didn't answer
  std::string function;  ///< of the server's source: which of several errors with a SQLSTATE it was

  /// `message`, unless a function that runs at each login wrote it: see server_message.hpp.
  std::string repeatable() const;

  /// The role lacks CONNECT on the database. Whatever language the server speaks.
  bool misses_connect() const { return sqlstate == "42501" && function == "CheckMyDatabase"; }
  /// The server can't convert between our encoding and the database's.
  bool misses_conversion() const { return sqlstate == "0A000"; }
};

/// `text` is PQerrorMessage() of a connection with PQERRORS_VERBOSE. Where several hosts were
/// tried, the message has all of their words, and the fields are those of the last.
LoginError read_login_error(std::string_view text);

}  // namespace django_session::pg
