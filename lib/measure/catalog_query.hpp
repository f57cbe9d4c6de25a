// A question to the catalogue or to a statistics view, in a read-only transaction of its own.
#pragma once

#include <string>

#include "pg/connection.hpp"

namespace django_session::sessions {

/// To be part of a transaction that asks the catalogues much: a database where, say, nested loops
/// are off, or where an unusual price makes the server compile each query, would take seconds for
/// it.
inline constexpr const char* kUsualPlans = R"(
SET LOCAL jit = off;
SET LOCAL enable_nestloop = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on;
SET LOCAL enable_indexscan = on;
SET LOCAL enable_indexonlyscan = on;
SET LOCAL enable_bitmapscan = on;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_sort = on;
SET LOCAL enable_hashagg = on;
SET LOCAL enable_material = on;
SET LOCAL seq_page_cost = 1;
SET LOCAL random_page_cost = 4;
SET LOCAL cpu_tuple_cost = 0.01;
SET LOCAL cpu_index_tuple_cost = 0.005;
SET LOCAL cpu_operator_cost = 0.0025;
SET LOCAL from_collapse_limit = 8;
SET LOCAL join_collapse_limit = 8;
SET LOCAL geqo = on;
SET LOCAL plan_cache_mode = auto;
)";

/// The rows of one SELECT, which ends with a semicolon. Names without a schema are pg_catalog's.
/// Throws pg::Error, with the connection ready for the next statement where it is still there.
pg::Rows ask_catalog(pg::Connection& connection, const std::string& query, pg::Deadline deadline);

}  // namespace django_session::sessions
