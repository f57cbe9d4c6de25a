// One text for readings, batches, swaps and questions to the catalogue.
#include "measure/transaction.hpp"

#include <fmt/format.h>

namespace django_session::sessions {
namespace {

// {0} READ ONLY or READ WRITE, {1} other statements, {2} and {3} milliseconds, {4} as below.
constexpr const char* kBegin = R"(
BEGIN ISOLATION LEVEL READ COMMITTED {0};{1}
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL quote_all_identifiers = off;
SET LOCAL exit_on_error = off;  -- some are expected: a lock that isn't granted
SET LOCAL lock_timeout = {2};
SET LOCAL statement_timeout = {3};
SET LOCAL datestyle = 'ISO';
SET LOCAL constraint_exclusion = off;
SET LOCAL jit = off;
{4})";

// {0} whether it is set for the transaction alone.
constexpr const char* kLiftTimeout =
    R"(SELECT WHERE CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL  -- from PostgreSQL 17 on
  THEN set_config('transaction_timeout', '0', {0}) IS NULL END;
)";

// A crash may bring back what was done, which the next run does again.
constexpr const char* kQuickCommit = "SET LOCAL synchronous_commit = off;\n";

}  // namespace

const char* const kUsualPlans = R"(
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

const char* const kByIndex = R"(
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL max_parallel_workers_per_gather = 0;
)";

std::string begin_transaction(Access access, TransactionLimits limits, const std::string& first) {
  return fmt::format(kBegin, access == Access::read_only ? "READ ONLY" : "READ WRITE", first,
                     limits.lock.count(), limits.statement.count(),
                     lift_transaction_timeout(Lasts::as_long_as_the_transaction));
}

std::string lift_transaction_timeout(Lasts lasts) {
  return fmt::format(kLiftTimeout, lasts == Lasts::as_long_as_the_transaction);
}

std::string Transaction::sql(const std::string& work) const {
  std::string text = begin_transaction(access, limits);
  if (plans == Plans::usual) text += kUsualPlans;
  if (plans == Plans::by_index) text += kByIndex;
  if (quick_commit) text += kQuickCommit;
  return text + work + (end == End::commit ? "\nCOMMIT;\n" : "\nROLLBACK;\n");
}

}  // namespace django_session::sessions
