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

std::string why_a_delete_would_fail(Run& run, const DeleteAccess& access,
                                    const std::string& cutoff) {
  BatchOrder order{cutoff, "-infinity", 1, {}, {}, true};
  order.trial = true;
  const TransactionLimits limits{run.options().lock_timeout, run.options().answer_timeout / 2};
  const pg::Answer answer =
      run.connection().try_run(batch_sql(run, access, order, limits), run.soon());
  if (!answer.refusal || says_nothing(run, access, answer)) return "";
  return access.why_it_failed(*answer.refusal);
}

}  // namespace django_session::sessions
