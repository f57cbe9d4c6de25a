// A batch of one session, which passes over what others hold and takes no turn of a cleanup.
#include "cleanup/delete_trial.hpp"

#include "cleanup/delete_sql.hpp"

namespace django_session::sessions {
namespace {

/// What ends a trial without saying anything about the table.
bool says_nothing(Run& run, const DeleteAccess& access, const pg::Answer& answer) {
  const pg::Error& error = *answer.refusal;
  return error.lock_not_available() || error.deadlock() || error.statement_timed_out() ||
         is_of_another_table(run, access, answer);
}

}  // namespace

DeleteTrial try_a_delete(Run& run, const DeleteAccess& access, const std::string& cutoff) {
  BatchOrder order{cutoff, "-infinity", 1, {}, {}, true};
  order.trial = true;
  const TransactionLimits limits{run.options().lock_timeout, run.options().answer_timeout / 2};
  const pg::Answer answer =
      run.connection().try_run(batch_sql(run, access, order, limits), run.soon());
  if (!answer.refusal) {
    const pg::Row row = row_of_batch(run, access, answer.rows);
    if (!row.has("seen")) return {};
    const BatchReport report = read_batch_report(row);
    return {"", report.free > 0 && report.deleted == 0};
  }
  if (says_nothing(run, access, answer)) return {};
  return {access.why_it_failed(*answer.refusal)};
}

}  // namespace django_session::sessions
