// Handing a reading over, and what happens when it is late.
#include "plugin/watched_database.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace django_session::plugin {

WatchedDatabase::WatchedDatabase(const DatabaseSettings& settings, Output output)
    : long_(settings.timeout() / 2),
      reader_(settings),
      own_output_{[this](const Samples& samples, Time time) { dispatch(samples, time); },
                  [this](LogLevel level, const std::string& line) { log(level, line); }},
      output_(std::move(output)) {}

void WatchedDatabase::read_in(ReadingPool& pool, Preparation prepare) {
  if (!begin()) return repeat_down();
  try {
    pool.run(
        [self = shared_from_this(), prepare = std::move(prepare)] {
          prepare();
          self->read();
        },
        expected());
  } catch (const std::system_error& error) {
    fail(fmt::format("no thread for the reading could be started: {}", error.code().message()));
  }
}

void WatchedDatabase::read_here() {
  if (begin()) read();
}

void WatchedDatabase::close() {
  const Lock lock(mutex_);
  closed_ = true;
}

/// False if a reading is running.
bool WatchedDatabase::begin() {
  const Lock lock(mutex_);
  return !std::exchange(reading_, true);
}

ReadingPool::Expected WatchedDatabase::expected() {
  const Lock lock(mutex_);
  return took_long_ ? ReadingPool::Expected::long_lasting : ReadingPool::Expected::quick;
}

void WatchedDatabase::read() {
  const auto began = ReadingPool::Clock::now();
  const bool up = reader_.read(own_output_);
  const Lock lock(mutex_);
  took_long_ = ReadingPool::Clock::now() - began >= long_;
  down_ = !up;
  reading_ = false;
}

void WatchedDatabase::fail(const std::string& trouble) {
  reader_.fail(trouble, own_output_);
  const Lock lock(mutex_);
  down_ = true;
  reading_ = false;
}

/// A Timeout longer than the interval would leave gaps, in which `up` looked merely unknown.
void WatchedDatabase::repeat_down() {
  const Lock lock(mutex_);
  if (!down_ || closed_) return;
  repeated_ = Output::Clock::now();
  output_.dispatch({sample_of(PluginValue::up, 0)}, repeated_);
}

/// collectd drops a value that is not later than the one before it.
void WatchedDatabase::dispatch(const Samples& samples, Time time) {
  const Lock lock(mutex_);
  if (!closed_) output_.dispatch(samples, std::max(time, repeated_ + std::chrono::milliseconds(1)));
}

void WatchedDatabase::log(LogLevel level, const std::string& line) {
  const Lock lock(mutex_);
  if (!closed_) output_.log(level, line);
}

}  // namespace django_session::plugin
