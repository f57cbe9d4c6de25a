// Which method cleans up, and what it will cost. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"
#include "core/metric.hpp"

namespace django_session {

/// Where a swap pays: at least so much to gain, and at most this share of the sessions to copy.
inline constexpr double kSwapWorthBytes = 256.0 * 1024 * 1024;
inline constexpr double kSwapMostLive = 0.4;

/// Of the disk where the table is. A server's disk is seen from its own host alone, by roles that
/// may see where it keeps its data.
struct DiskRoom {
  std::optional<double> free;  ///< bytes; nothing where it can't be seen
  std::string folder;
};

/// All that the decision rests on.
struct Circumstances {
  MetricValues values;
  std::vector<Refusal> refusals;
  std::vector<std::string> notes;
  DiskRoom room;
};

CleanupPlan plan_from(const Circumstances& circumstances, const CleanupOptions& options);

/// "view public.v depends on the table"
std::string describe(const Refusal& refusal);

}  // namespace django_session
