// A batch of one session, which passes over what others hold and takes no turn of a cleanup.
#include "cleanup/delete_trial.hpp"

#include "cleanup/as_owner.hpp"
#include "cleanup/delete_sql.hpp"

namespace django_session::sessions {
namespace {

/// What ends a trial without saying anything about the table.
bool says_nothing(Run& run, const DeleteAccess& access, const pg::Answer& answer) {
  const pg::Error& error = *answer.refusal;
  return error.lock_not_available() || error.deadlock() || error.statement_timed_out() ||
         is_of_another_table(run, access, answer);
}

BatchReport trial_report(Run& run, const DeleteAccess& access, const pg::Rows& rows) {
  const pg::Row last = access.in_a_block ? report_of(run.connection())
                       : rows.empty()    ? pg::Row()
                                         : rows.back();
  return last.has("seen") ? read_batch_report(last) : BatchReport{};
}

}  // namespace

DeleteTrial try_a_delete(Run& run, const DeleteAccess& access, const std::string& cutoff) {
  BatchOrder order{cutoff, "-infinity", 1, {}, {}, true};
  order.trial = true;
  const TransactionLimits limits{run.options().lock_timeout, run.options().answer_timeout / 2};
  const pg::Answer answer =
      run.connection().try_run(batch_sql(run, access, order, limits), run.soon());
  if (!answer.refusal) {
    const BatchReport report = trial_report(run, access, answer.rows);
    return {"", report.free > 0 && report.deleted == 0};
  }
  if (says_nothing(run, access, answer)) return {};
  return {access.why_it_failed(*answer.refusal)};
}

}  // namespace django_session::sessions
