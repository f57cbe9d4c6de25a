// What we can do is compared with what the owner can do.
//
// Where the two can't be compared exactly, there is more: it costs a plainer answer, or a role of
// its own, while the opposite would give rights away.
#include "measure/more_rights.hpp"

#include "core/sql_text.hpp"
#include "measure/sql_files.hpp"

namespace django_session::sessions {

std::string more_rights() { return sql::fill<sql::more_rights>(sql::arg<"set_role">(kSetRole)); }

}  // namespace django_session::sessions
