// One transaction, one question.
#include "measure/catalog_query.hpp"

#include <algorithm>
#include <chrono>

#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

constexpr std::chrono::milliseconds kLockTimeout{100};

}  // namespace

pg::Rows ask_catalog(pg::Connection& connection, const std::string& query, pg::Deadline deadline) {
  const auto timeout = std::max(deadline.remaining(), std::chrono::milliseconds(1));
  connection.send(begin_transaction(Access::read_only, kLockTimeout, timeout) + kUsualPlans +
                      query + "\nCOMMIT;\n",
                  deadline);
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
