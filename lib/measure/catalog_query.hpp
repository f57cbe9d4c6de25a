// A question to the catalogue or to a statistics view, in a read-only transaction of its own.
#pragma once

#include <string>

#include "pg/connection.hpp"

namespace django_session::sessions {

/// The rows of one SELECT, which ends with a semicolon. Names without a schema are pg_catalog's.
/// Throws pg::Error, with the connection ready for the next statement where it is still there.
pg::Rows ask_catalog(pg::Connection& connection, const std::string& query, pg::Deadline deadline);

}  // namespace django_session::sessions
