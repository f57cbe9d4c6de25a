// Which method cleans up, and what it will cost. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"
#include "core/measurement.hpp"
#include "core/metric.hpp"

namespace django_session {

/// Where a swap pays: at least so much to gain that a deletion would not give back, and at most
/// this share of the bytes to rewrite.
inline constexpr double kSwapWorthBytes = 64.0 * 1024 * 1024;
inline constexpr double kSwapMostWritten = 0.4;
/// A swap that was interrupted is resumed up to this age, in seconds: by a weekly run, too.
inline constexpr double kOldestSwapToResume = 8 * 24 * 3600;

/// A folder of the server's. Its disk is seen from its own host alone, by roles that may see where
/// the server keeps its data.
struct DiskRoom {
  std::optional<double> free;  ///< bytes; nothing where it can't be seen
  std::string folder;
  std::string file_system;  ///< the same for folders that share one; "" where it can't be seen
};

/// Where the parts of a new table go.
struct ServerRoom {
  DiskRoom table;                           ///< and its TOAST
  std::map<std::string, DiskRoom> indexes;  ///< by name
  DiskRoom wal;
  std::vector<DiskRoom> temporary;  ///< any of these may get a temporary file
  std::optional<double> wal_kept;   ///< bytes of WAL that stay at most; nothing: all may
};

/// The server's settings for sorting, in bytes: an index is built in memory or by temporary files.
struct SortSpace {
  double memory = 64.0 * 1024 * 1024;         ///< maintenance_work_mem
  std::optional<double> temporary_files_max;  ///< temp_file_limit, if there is one
};

/// What our role may do after a deletion, and if it can't do all, who can.
struct GivingBack {
  bool vacuum = true, reindex = true;
  std::string who_can;
};

/// All that the decision rests on.
struct Circumstances {
  MetricValues values;  ///< `live`: what stays
  std::optional<SizesAfresh> afresh;
  std::vector<Refusal> refusals;
  std::vector<std::string> notes;
  ServerRoom room;
  SortSpace sorting;
  GivingBack giving_back;
  std::vector<std::string> standbys;           ///< their names, for people
  std::optional<double> interrupted_swap_age;  ///< seconds, where its shadow is still there
  double interrupted_swap_bytes = 0;           ///< which a resumed swap needs no more
};

CleanupPlan plan_from(const Circumstances& circumstances, const CleanupOptions& options);

/// With what is left to others: what a plan shows.
std::vector<std::string> all_notes(const CleanupPlan& plan);

/// "view public.v depends on the table"
std::string describe(const Refusal& refusal);

}  // namespace django_session
