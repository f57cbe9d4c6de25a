// A question to the session table itself, asked so that the code of the table's owner that a look
// at it sets off (constant calls in its index predicates, say) runs with no more rights than he
// has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cleanup/run.hpp"

namespace django_session::sessions {

enum class ReadingAs {
  ourselves,  ///< we are the owner, or have no rights that he might want
  owner,      ///< in his jail, see as_owner.hpp
  nobody,     ///< we have more rights than he has, and can't become him: the table isn't read
};

/// By what the catalogue says of our role and the owner of the run's table. Throws pg::Error.
ReadingAs who_may_read(Run& run);

struct SessionQuestion {
  std::vector<std::string> columns;
  std::string select;
};

/// The one row of `select`, a SELECT from the run's table without a semicolon whose `columns` are
/// amounts (pg::kAmount) and never NULL; `limit` is short: not by reading a large table. Changes
/// nothing: what the jail needs is rolled back. Nothing where the table can't be read so: a missing
/// right, a lock, `limit` passed. Where the server refuses it, `refusal` gets its words. Throws
/// pg::Error if the connection is lost.
std::optional<pg::Row> ask_sessions(Run& run, ReadingAs who, const SessionQuestion& question,
                                    pg::Deadline limit, std::string* refusal = nullptr);

}  // namespace django_session::sessions
