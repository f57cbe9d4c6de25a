// SET LOCAL and not SET: behind a pooler the next transaction on this backend is somebody else's.
#include "measure/catalog_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace django_session::sessions {
namespace {

constexpr const char* kTransaction = R"(
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL lock_timeout = 100;
SET LOCAL statement_timeout = {0};
{2}
{1}
COMMIT;
)";

}  // namespace

pg::Rows ask_catalog(pg::Connection& connection, const std::string& query, pg::Deadline deadline) {
  const auto timeout = std::max(deadline.remaining(), std::chrono::milliseconds(1)).count();
  connection.send(fmt::format(kTransaction, timeout, query, kUsualPlans), deadline);
  try {
    pg::Rows rows = connection.next_rows(deadline).value_or(pg::Rows());
    connection.finish(deadline);
    return rows;
  } catch (const pg::Error& error) {
    if (error.kind() == pg::Error::Kind::statement) connection.finish(deadline);
    throw;
  }
}

}  // namespace django_session::sessions
