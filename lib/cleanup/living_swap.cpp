// A swap that lives has a state whose lease has not run out, and a backend; or its shadow or its
// log is being vacuumed or analyzed, which doesn't renew the lease.
#include "cleanup/living_swap.hpp"

#include <fmt/format.h>

#include "cleanup/as_owner.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/swap_sql.hpp"

namespace django_session::sessions {
namespace {

// {0} the table's OID.
constexpr const char* kHasState = R"(
SELECT EXISTS (SELECT FROM pg_class s JOIN pg_class t ON t.oid = {0} AND t.relowner = s.relowner
               WHERE s.relname = 'djs_{0}_state' AND s.relnamespace = t.relnamespace
                 AND s.relkind = 'r') AS found;
)";

bool has_state(Run& run) {
  return run.ask(fmt::format(kHasState, run.target().oid)).front().flag("found");
}

TransactionLimits limits(Run& run) {
  return {run.options().lock_timeout, run.options().answer_timeout};
}

bool lives_by_its_state(Run& run, const DeleteAccess& access) {
  SwapNames names;
  names.oid = run.target().oid;
  names.schema = run.connection().identifier(run.target().schema);
  names.table = run.target().sql_name;
  names.owner = access.owner;
  names.run_id = run.id();
  run.send(read_state_sql(names, limits(run)), run.soon());
  const pg::Row row = report_of(run.connection());
  if (!row.has("lease")) return false;
  return row.flag("is_vacuumed") ||
         (row.number("lease").value_or(0) > 0 && !row.flag("backend_gone"));
}

bool lives_by_the_function(Run& run, const DeleteAccess& access) {
  const BatchOrder nothing{"-infinity", "-infinity", 0, {}, {}, false};
  const pg::Rows rows = run.send(batch_sql(run, access, nothing, limits(run)), run.soon());
  return !rows.empty() && rows.back().has("seen") && read_batch_report(rows.back()).swap_lives;
}

bool lives(Run& run, const DeleteAccess& access) try {
  return access.way == DeleteAccess::Way::function ? lives_by_the_function(run, access)
                                                   : lives_by_its_state(run, access);
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
  return error.lock_not_available();  // it has the state's lock; else it has just ended
}

}  // namespace

void stop_if_a_swap_lives(Run& run, const DeleteAccess& access) {
  if (has_state(run) && lives(run, access))
    throw LeftToAnother("a swap of this table is running; this cleanup would spoil its work");
}

}  // namespace django_session::sessions
