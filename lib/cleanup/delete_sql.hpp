// The SQL of one batch of a deletion, for each way to have it run.
#pragma once

#include <string>
#include <vector>

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {

/// Which expired sessions to delete. Addresses are ctids: "(0,1)".
struct BatchOrder {
  std::string cutoff, beginning;          ///< as text: at `beginning` or later, but before `cutoff`
  int most = 0;                           ///< rows
  std::vector<std::string> passing_over;  ///< not these
  std::vector<std::string> only;          ///< only these, wherever they begin; empty: no matter
  bool skip_locked = false;               ///< leave what others hold, instead of waiting for it
  bool trial = false;                     ///< rolled back; takes no turn of a cleanup
};

struct BatchReport {
  bool is_ours = false;     ///< false: another cleanup has the table
  bool is_locked = false;   ///< the table's lock wasn't granted
  bool swap_lives = false;  ///< known to Way::function alone
  double seen = 0;          ///< expired sessions found
  double free = 0;          ///< of these, not held by others
  double deleted = 0;
  std::string moment;                  ///< of the last one seen, as text
  std::vector<std::string> left_over;  ///< addresses of those seen that are still there
  std::vector<std::string> left_last;  ///< the ones among them that expired at `moment`
  std::vector<std::string> lockers;    ///< ids of transactions that hold some; with skip_locked
  double wal_bytes = 0;                ///< written meanwhile, by all sessions
};

/// One message, one transaction, on the run's table. Its rows: `table_is_locked` once it has the
/// table (not with Way::function), then what read_batch_report() reads, but from a
/// block (DeleteAccess::in_a_block) that is reported by RAISE INFO. Fails if the table is no longer what it was: is_of_another_table().
std::string batch_sql(Run& run, const DeleteAccess& access, const BatchOrder& order,
                      TransactionLimits limits);

/// Whether a batch was refused because the table, or the function, was replaced or has another
/// owner. A division by zero that comes later is that of a trigger. Of a function it asks the server.
bool is_of_another_table(Run& run, const DeleteAccess& access, const pg::Answer& answer);

/// What isn't of the right form is taken for empty: it may be the owner's word.
BatchReport read_batch_report(const pg::Row& row);

/// The row that it reads, of a batch that has just answered with `rows`; without "seen" where the
/// answer was incomplete.
pg::Row row_of_batch(Run& run, const DeleteAccess& access, const pg::Rows& rows);

}  // namespace django_session::sessions
