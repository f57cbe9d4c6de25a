// Statements that come again with each reading: planned once, over a connection of our own.
//
// Prepared statements belong to the session, and so to all code that runs in it: a function of the
// table's owner could put another statement under the name of one of ours. So they are prepared in
// a message of their own, in which none of his code runs, and each message that executes them makes
// sure that they are as old as that.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "pg/error.hpp"
#include "pg/rows.hpp"

namespace django_session::sessions {

/// What the backend of one connection has prepared for us. Only plans are kept, never results; the
/// server makes a plan again when something that it depends on has changed.
class PreparedStatements {
 public:
  /// For a connection to a backend that is ours alone. Before, and after end(), all is sent as it
  /// is.
  void begin();
  void end() { in_use_ = false; }

  /// `select`, one statement with its semicolon, as part of a message that begins with
  /// verification(): EXECUTE, or as it is until it is prepared.
  std::string execute(const std::string& select);

  /// The statements of a transaction that prepares what was asked more than once, and says when:
  /// one row, for prepared(). Empty where there is nothing to do.
  std::string preparation();
  void prepared(const pg::Row& row);

  /// A statement with a row that fails where what the message executes isn't what was prepared.
  /// Empty where nothing is executed. Ends the message; verifies() is about the last one.
  std::string verification();
  bool verifies() const { return verifies_; }

  /// Whether the message failed because of what is prepared, or isn't: a pooler couldn't be told, a
  /// column has another type. Then this is the end().
  bool give_up(const pg::Error& error);

 private:
  struct Statement {
    int asked = 0;
    std::string name, time;    ///< empty until it is prepared
    bool is_executed = false;  ///< by the message that is being written
  };
  bool in_use_ = false, verifies_ = false;
  int last_number_ = 0;
  std::map<std::string, Statement> statements_;  ///< by their text
};

}  // namespace django_session::sessions
