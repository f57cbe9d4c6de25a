// Which of the server's messages may be repeated: those that no code of the database can have
// written. A trigger, a CHECK, a policy or an index' function may quote the session that it is
// working on, and so do the server's own words about a value.
#pragma once

#include <string>
#include <string_view>

namespace django_session::pg {

/// How what our own blocks say by RAISE INFO begins. Nothing else is kept: the site's code may say
/// much.
inline constexpr std::string_view kReportMark = "djs: ";

/// The fields of an error or a warning; "" where it came without.
struct ServerMessage {
  std::string sqlstate;
  std::string text;             ///< the primary message
  std::string context;          ///< which functions were running, the innermost first
  std::string source_function;  ///< of the server's source
  /// It is at a place of what was sent: found when that was parsed, before it had any row.
  bool in_our_statement = false;
  std::string own_functions = {};  ///< how the names of those begin that this session makes
};

/// Whether `text` is the server's own, and without a value of a row; or ours, by a block of ours.
bool may_be_repeated(const ServerMessage& message);

/// `text`, or instead of it what is known without it: the kind of failure, the SQLSTATE and whose
/// function it was in.
std::string repeatable_text(const ServerMessage& message);

}  // namespace django_session::pg
