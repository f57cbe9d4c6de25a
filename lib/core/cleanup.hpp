// A cleanup as data: what is wanted, what is planned and why, what came of it. No I/O.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/metric.hpp"

namespace django_session {

enum class Method {
  automatic,  ///< swap where the pre-flight allows it and it pays, else delete; never full
  remove,     ///< "delete": batches, VACUUM, REINDEX CONCURRENTLY of bloated indexes
  swap,       ///< copy the live rows beside the table, then exchange the two
  full,       ///< delete, then VACUUM (FULL, ANALYZE): blocks the site during the rewrite
};

std::string_view method_name(Method method);  ///< "auto", "delete", "swap", "full"
/// Throws ConfigError that lists the methods.
Method parse_method(std::string_view name);

/// How far replicas, slots or the archiver may fall behind before the cleanup waits, and then gives
/// up.
struct LagLimit {
  std::optional<double> bytes;
  std::optional<std::chrono::milliseconds> time;
};

struct CleanupOptions {
  Method method = Method::automatic;
  std::chrono::seconds keep{0};  ///< leave sessions that expired less than this ago
  std::optional<std::chrono::milliseconds> max_duration;
  std::chrono::milliseconds lock_timeout{100};  ///< for each try of an exclusive lock
  LagLimit max_lag;
  std::chrono::milliseconds max_clock_skew{60'000};  ///< of the server's clock against ours
  std::chrono::milliseconds answer_timeout{
      10000};             ///< for each connect and each answer that should be quick
  bool rehearse = false;  ///< a swap without its exchange, which takes away what it made
};

/// Why a method is not possible for this table; `object` is the name of what is in the way.
struct Refusal {
  Method method;
  std::string object;
  std::string reason;
};

struct CleanupPlan {
  Method method = Method::remove;
  std::string reason;             ///< why this one
  bool refused = false;           ///< the method asked for isn't possible: nothing may be run
  std::vector<Refusal> refusals;  ///< of every method that is not possible
  std::vector<std::string>
      notes;  ///< what will slow it down or be of little use, say an old transaction and whose
  /// What our role may not do after a deletion, and who may. A run's summary has it, so that a run
  /// by the clock has nothing to note of what is the same each time.
  std::string left_to_others;
  bool nothing_to_do = false;    ///< nothing has expired, and nothing is worth giving back
  std::chrono::seconds keep{0};  ///< what has expired less than this ago counts as live
  // Nothing where it isn't known.
  std::optional<double> live_rows, expired_rows;
  bool live_is_counted = false, expired_is_counted = false;  ///< else estimated
  std::optional<double> bytes_before, bytes_after;           ///< table, TOAST and indexes
  /// In between, beside what is there: new files, of that temporary ones, and WAL.
  std::optional<double> extra_disk_bytes, temporary_bytes, wal_bytes;
  /// How long it may take, waits aside.
  std::optional<double> least_seconds, most_seconds;
  std::optional<double> free_disk_bytes;  ///< of the file system that will be fullest
  std::optional<bool> fits;               ///< everything, each onto its file system
  std::string disk;     ///< what doesn't fit and where, or what can't be seen; may be empty
  std::string unknown;  ///< why some of these are not known; empty when all are
};

enum class Outcome { done, stopped, failed, refused };  ///< exit codes 0 to 3

std::string_view outcome_name(Outcome outcome);  ///< "done" ... "refused"

struct CleanupResult {
  Outcome outcome = Outcome::done;
  Method method = Method::remove;
  std::string message;  ///< what happened, one line, fit for a log, a notification and a terminal
  bool left_to_another =
      false;  ///< `stopped` because another cleanup is or was running on the table
  // Nothing where it isn't known, say without a connection.
  std::optional<double> rows_deleted;  ///< by a swap: an estimate
  std::optional<double> bytes_before, bytes_after;
  std::chrono::milliseconds duration{0};
  std::chrono::milliseconds longest_lock{0};  ///< of the exclusive ones that we held or waited for
};

/// Not negative; nothing where a size isn't known.
std::optional<double> bytes_reclaimed_by(const CleanupResult& result);
/// "29.1k"; "~29.1k" for an estimate; "unknown".
std::string rows_deleted_text(const CleanupResult& result);
/// `before` and "1.1 GB -> 585 MB"; empty where one of the two isn't known.
std::string sizes_text(const CleanupResult& result, std::string_view before);
/// "1.1 GB"; "unknown".
std::string quantity_text(std::optional<double> number, Unit unit);

/// Where a running cleanup stands.
struct CleanupProgress {
  std::string phase;  ///< "deleting", "copying", "vacuuming"...
  double rows = 0, rows_total = 0;
  double bytes = 0;
  int part = 1, parts = 1;  ///< of a step that comes in several, say for each index
  // 0 to 1.
  std::optional<double> share = {};  ///< of this part, where the server tells
  std::optional<double> done = {};   ///< of the whole work; at least, where no share is known
};

/// 0 to 1: by its rows, else by what the server tells; nothing where neither is known.
std::optional<double> share_of_phase(const CleanupProgress& progress);

/// What a running cleanup asks and reports; called in the thread that runs it.
class CleanupObserver {
 public:
  virtual ~CleanupObserver() = default;
  virtual bool stop_requested() = 0;  ///< asked often: between batches and while waiting
  virtual void on_progress(const CleanupProgress& progress) = 0;
  virtual void on_note(const std::string& line) = 0;  ///< one line for the log
};

}  // namespace django_session
