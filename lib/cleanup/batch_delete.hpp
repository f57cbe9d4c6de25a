// The first half of the methods "delete" and "full": expired sessions go in small batches.
#pragma once

#include <optional>
#include <string>

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"

namespace django_session::sessions {

struct DeleteOrder {
  std::string cutoff;  ///< a timestamptz as text: what expired before it goes
  std::optional<double> rows_expected, bytes_per_row;  ///< for the progress alone
};

/// Expired sessions that are still there.
struct Undeleted {
  double locked = 0;    ///< held by others, whenever we came by
  double kept = 0;      ///< still there after their DELETE
  std::string lockers;  ///< who holds them

  /// "1 expired session is locked by pid ...", for a message; empty if none is left.
  std::string text() const;
  /// Nothing that a run should end as "stopped" for.
  bool few(double deleted) const;
};

/// Deletes in the way that `access` says; row locks on expired rows, for a batch of some 60 ms. A
/// session that is renewed meanwhile survives. What others hold is left, and tried again at the
/// end. Adds to the result's rows_deleted as it goes. Throws Stopped or pg::Error; what is deleted
/// by then stays deleted.
Undeleted delete_expired(Run& run, const DeleteAccess& access, const DeleteOrder& order);

/// The message that deletes the first batch.
std::string sql_of_first_batch(Run& run, const DeleteAccess& access, const std::string& cutoff);

}  // namespace django_session::sessions
