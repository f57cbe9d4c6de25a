// How many rows the next batch of a running cleanup takes, and how long it rests after it. Pure.
#pragma once

#include <chrono>

namespace django_session {

/// Keeps batches between 100 and 250 ms: long enough that a transaction's own cost doesn't count,
/// short enough that nobody notices who has to wait for one. Servers differ by more than a hundred
/// times in rows per second, so it starts small and learns.
class BatchSize {
 public:
  int rows() const { return static_cast<int>(rows_); }

  /// A batch of rows() took this long, from sending it to the answer to COMMIT.
  void took(std::chrono::milliseconds elapsed);

  /// A batch ran into its time limit, or into somebody's lock. False: it can't be smaller.
  bool was_too_much();

 private:
  double rows_ = 500;
};

/// As long as the batch, so that the server has half its time for others; at most 5 s.
std::chrono::milliseconds pause_after(std::chrono::milliseconds batch);

}  // namespace django_session
