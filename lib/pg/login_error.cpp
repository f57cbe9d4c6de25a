// The form is fe-protocol3.c's: "SEVERITY:  SQLSTATE: message", further fields in lines of their
// own, the last of which is "LOCATION:  function, file:line".
#include "pg/login_error.hpp"

#include <algorithm>

#include "pg/server_message.hpp"

namespace django_session::pg {
namespace {

constexpr std::size_t kSqlstateLength = 5;
constexpr std::string_view kLocation = "LOCATION:  ";

bool is_sqlstate(std::string_view text) {
  return text.size() == kSqlstateLength && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
         });
}

/// Takes "XXXXX: " out of "...SEVERITY:  XXXXX: message"; "" if there is none.
std::string take_sqlstate(std::string& line) {
  constexpr std::string_view kBefore = ":  ", kAfter = ": ";
  const auto at = line.find(kBefore);
  if (at == std::string::npos) return "";
  const auto begin = at + kBefore.size();
  std::string sqlstate = line.substr(begin, kSqlstateLength);
  if (!is_sqlstate(sqlstate) || line.compare(begin + kSqlstateLength, kAfter.size(), kAfter) != 0)
    return "";
  line.erase(begin, kSqlstateLength + kAfter.size());
  return sqlstate;
}

}  // namespace

std::string LoginError::repeatable() const {
  // The context is among the lines. Whatever else fails at a login has no session to quote.
  if (message.find("PL/") == std::string::npos) return message;
  return repeatable_text({sqlstate, message, message, function});
}

LoginError read_login_error(std::string_view text) {
  LoginError error;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string line(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.starts_with(kLocation)) {
      error.function = line.substr(kLocation.size(), line.find(',') - kLocation.size());
      continue;
    }
    if (std::string sqlstate = take_sqlstate(line); !sqlstate.empty()) {
      error.sqlstate = sqlstate;
      error.function.clear();
    }
    error.message += line + '\n';
  }
  return error;
}

}  // namespace django_session::pg
