// One text for readings, batches, swaps and questions to the catalogue.
#include "measure/transaction.hpp"

#include <fmt/format.h>

namespace django_session::sessions {
namespace {

// {0} READ ONLY or READ WRITE, {1} other statements, {2} and {3} milliseconds.
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
)";

}  // namespace

std::string begin_transaction(Access access, std::chrono::milliseconds lock_timeout,
                              std::chrono::milliseconds statement_timeout,
                              const std::string& first) {
  return fmt::format(kBegin, access == Access::read_only ? "READ ONLY" : "READ WRITE", first,
                     lock_timeout.count(), statement_timeout.count());
}

}  // namespace django_session::sessions
