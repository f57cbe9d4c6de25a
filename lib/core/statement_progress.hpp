// How far a statement is by the server's progress views. Pure.
#pragma once

#include <optional>
#include <string>

namespace django_session {

/// A row of pg_stat_progress_vacuum, _create_index or _cluster.
struct StatementProgress {
  std::string phase;          ///< in the view's words
  bool concurrently = false;  ///< of an index
  /// Shares, 0 to 1; nothing where the server doesn't say. Of the table's blocks those that are
  /// read; and what is made of them: blocks vacuumed, entries of an index, indexes of a new table.
  std::optional<double> read, made;
};

/// 0 to 1; nothing where the phase says nothing.
std::optional<double> share_of_statement(const StatementProgress& progress);

}  // namespace django_session
