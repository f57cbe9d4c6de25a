// One <Database>: measures, hands the samples on, and says once when a problem begins or ends.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "measure/probe.hpp"
#include "plugin/outage_log.hpp"
#include "plugin/samples.hpp"
#include "plugin/settings.hpp"
#include "plugin/unknowns_log.hpp"

namespace django_session::plugin {

enum class LogLevel { error, warning, notice };

/// Where samples and messages go: collectd, or a test.
struct Output {
  using Clock = std::chrono::system_clock;
  using Time = Clock::time_point;

  /// `time`: when the reading began.
  std::function<void(const Samples&, Time time)> dispatch;
  std::function<void(LogLevel, const std::string&)> log;
};

/// Used by one thread at a time.
class Reader {
 public:
  explicit Reader(const DatabaseSettings& settings);

  /// One reading, within the block's Timeout. An outage, or whatever else goes wrong, is a reading
  /// too: `up` = 0 and one log line when it begins. Whether the database is up.
  bool read(const Output& output);

  /// Instead of a reading that couldn't even start.
  void fail(const std::string& trouble, const Output& output);

 private:
  void measure(const Output& output, pg::Deadline deadline);
  void note_first(const sessions::Reckoned& reckoned, const Output& output);
  void note_unknowns(const Findings& findings, const Output& output);
  void note_abandoned_swap(bool abandoned, const Output& output);

  void note_outage(const std::string& cause, const std::string& trouble, const Output& output);

  std::string instance_;
  std::chrono::milliseconds timeout_;
  Output::Time began_{};  ///< the running reading
  sessions::Probe probe_;
  bool has_measured_ = false;
  OutageLog outages_;
  UnknownsLog unknowns_;
  bool swap_abandoned_ = false;
};

}  // namespace django_session::plugin
