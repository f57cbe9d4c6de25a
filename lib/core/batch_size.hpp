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

  /// A batch ran into its time limit, or into another session's lock. False: it can't be smaller.
  bool was_too_much();

 private:
  double rows_ = 500;
};

/// The same for deleting beside a site's traffic. Its clients wait at each of their COMMITs until
/// the WAL is on the disk, with ours in front of it; so batches are small in bytes of WAL as well
/// as short, and most of the time is left to the clients.
class DeletePace {
 public:
  static constexpr std::chrono::milliseconds kAim{60};  ///< for a batch

  int rows() const { return static_cast<int>(rows_); }

  /// A batch of rows() took this long, from sending it to the answer to COMMIT, and wrote so much.
  void took(std::chrono::milliseconds elapsed, double wal_bytes);

  /// A batch ran into its time limit. False: it can't be smaller.
  bool was_too_much();

  /// The rest after a batch.
  static std::chrono::milliseconds pause_after(std::chrono::milliseconds batch);

 private:
  double rows_ = 500;
};

}  // namespace django_session
