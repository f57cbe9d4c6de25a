// One <Database> by collectd's schedule: when a reading is due it runs in a thread of ours, so that
// what hangs holds up nothing else.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "core/mutex.hpp"
#include "plugin/reader.hpp"
#include "plugin/reading_pool.hpp"
#include "plugin/settings.hpp"

namespace django_session::plugin {

/// Owned by shared pointers alone: a reading that had to be let go still uses it. All members may
/// be called in any thread.
class WatchedDatabase : public std::enable_shared_from_this<WatchedDatabase> {
 public:
  using Time = Output::Time;

  WatchedDatabase(const DatabaseSettings& settings, Output output);

  /// What a reading's thread does first: it takes over what collectd keeps for each thread.
  using Preparation = std::function<void()>;

  /// Called at each interval; returns at once. Starts a reading, unless the last one hasn't ended:
  /// then values are left out, but a database that is down is said to be so at each interval.
  void read_in(ReadingPool& pool, Preparation prepare);

  /// The same in this thread, to its end.
  void read_here();

  /// No value and no message leaves after this has returned.
  void close();

 private:
  bool begin();
  ReadingPool::Expected expected();
  void read();
  void repeat_down();
  void fail(const std::string& trouble);
  void dispatch(const Samples& samples, Time time);
  void log(LogLevel level, const std::string& line);

  const std::chrono::milliseconds long_;  ///< what a reading takes that takes long
  Reader reader_;                         ///< of the running reading
  Output own_output_;                     ///< the reader's: ends in `output_`, until closed

  Mutex mutex_;
  const Output output_;  ///< not called after close()
  bool closed_ GUARDED_BY(mutex_) = false;
  bool reading_ GUARDED_BY(mutex_) = false;    ///< one is running
  bool down_ GUARDED_BY(mutex_) = false;       ///< as of the last reading
  bool took_long_ GUARDED_BY(mutex_) = false;  ///< the same
  Time repeated_ GUARDED_BY(mutex_){};         ///< when `up` = 0 was last repeated
};

}  // namespace django_session::plugin
