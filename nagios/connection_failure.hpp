// Why the check can't connect, or gets no answer in time: the reason first, and what to do about it.
#pragma once

#include <string>
#include <vector>

#include "core/runbook.hpp"
#include "pg/connection.hpp"

namespace django_session::nagios {

struct ConnectionFailure {
  std::string reason;             ///< "password authentication failed for user "x" (db1:5432)"
  std::vector<std::string> next;  ///< lines: what to do, and commands behind two spaces
  RunbookSection section = RunbookSection::other_login;  ///< of the manual page
};

ConnectionFailure explain_connection(const pg::Error& error, const pg::Parameters& parameters);

/// What to look at where the server let us in and then didn't answer in time.
std::vector<std::string> look_at_slow_server(const pg::Error& error,
                                             const pg::Parameters& parameters);

}  // namespace django_session::nagios
