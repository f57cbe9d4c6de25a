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
  const Transaction transaction{
      Access::read_only, {kLockTimeout, timeout}, Transaction::Plans::usual};
  return connection.run(transaction.sql(query), deadline);
}

}  // namespace django_session::sessions
