// The decision asks nobody: findings go in, a plan comes out.
#include "core/cleanup_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/quantity.hpp"

namespace django_session {
namespace {

const Refusal* refusal_of(Method method, const std::vector<Refusal>& refusals) {
  const auto found = std::find_if(refusals.begin(), refusals.end(),
                                  [method](const Refusal& r) { return r.method == method; });
  return found == refusals.end() ? nullptr : &*found;
}

/// The figures that all methods share; nothing where one isn't known.
struct Sizes {
  std::optional<double> total, reclaimable, live, expired, indexes;
  std::string unknown;  ///< why; empty when all are known

  bool known() const { return total && reclaimable && live && expired; }
};

Sizes sizes_of(const MetricValues& values) {
  Sizes sizes;
  const auto number = [&](Metric metric) {
    const MetricValue& value = values[metric];
    if (!value.number && sizes.unknown.empty()) sizes.unknown = value.reason;
    return value.number;
  };
  sizes.expired = number(Metric::expired);
  sizes.live = number(Metric::live);
  sizes.total = number(Metric::total);
  sizes.reclaimable = number(Metric::reclaimable);
  sizes.indexes = number(Metric::indexes);
  return sizes;
}

double live_share(const Sizes& sizes) {
  const double live = sizes.live.value_or(0), all = live + sizes.expired.value_or(0);
  return all > 0 ? live / all : 0;
}

/// Why a swap wouldn't pay; empty where it does.
std::string not_worth_a_swap(const Sizes& sizes) {
  if (!sizes.known())
    return fmt::format("it isn't known what a swap would give back: {}", sizes.unknown);
  if (*sizes.reclaimable < kSwapWorthBytes)
    return fmt::format("{} to give back is less than the {} that a swap is worth",
                       format_quantity(*sizes.reclaimable, Unit::bytes),
                       format_quantity(kSwapWorthBytes, Unit::bytes));
  if (live_share(sizes) > kSwapMostLive)
    return fmt::format("{} of the sessions are live, more than the {} up to which a swap pays",
                       format_quantity(100 * live_share(sizes), Unit::percent),
                       format_quantity(100 * kSwapMostLive, Unit::percent));
  return "";
}

void choose(CleanupPlan& plan, const Sizes& sizes) {
  const Refusal* refusal = refusal_of(Method::swap, plan.refusals);
  const std::string worthless = not_worth_a_swap(sizes);
  plan.method = refusal == nullptr && worthless.empty() ? Method::swap : Method::remove;
  if (refusal != nullptr)
    plan.reason = "a swap is not possible: " + describe(*refusal);
  else if (!worthless.empty())
    plan.reason = worthless;
  else
    plan.reason = fmt::format("a swap gives back {} and copies {} of the sessions",
                              format_quantity(*sizes.reclaimable, Unit::bytes),
                              format_quantity(100 * live_share(sizes), Unit::percent));
}

// Measured on PostgreSQL 15 with sessions of 190 bytes: WAL for each expired row deleted and
// vacuumed, and for each byte of the new table with its indexes.
constexpr double kWalPerDeletedRow = 300;
constexpr double kWalPerNewByte = 1.1;

double reclaimable_in_indexes(const Sizes& sizes) {
  return *sizes.total > 0 ? *sizes.reclaimable * *sizes.indexes / *sizes.total : 0;
}

/// What a table without anything to reclaim would take; nothing where it isn't known.
std::optional<double> compact_size(const Sizes& sizes) {
  if (!sizes.total || !sizes.reclaimable) return std::nullopt;
  return std::max(*sizes.total - *sizes.reclaimable, 0.0);
}

/// A new table is written beside the old one, and to the WAL, which mostly is on the same disk.
constexpr double kRoomForCopies = 2;

void refuse_for_want_of_room(CleanupPlan& plan, const Sizes& sizes, const DiskRoom& room) {
  const auto compact = compact_size(sizes);
  if (!compact || !room.free || *room.free >= kRoomForCopies * *compact) return;
  const std::string reason = fmt::format("has {} free in {}: the new table and its WAL take {}",
                                         format_quantity(*room.free, Unit::bytes), room.folder,
                                         format_quantity(kRoomForCopies * *compact, Unit::bytes));
  for (const Method method : {Method::swap, Method::full})
    plan.refusals.push_back({method, "the server's disk", reason});
}

void foresee(CleanupPlan& plan, const Sizes& sizes) {
  plan.live_rows = sizes.live;
  plan.expired_rows = sizes.expired;
  plan.bytes_before = sizes.total;
  plan.unknown = sizes.unknown;
  const auto compact = compact_size(sizes);
  if (!compact) return;
  std::optional<double> deleting;
  if (sizes.expired) deleting = *sizes.expired * kWalPerDeletedRow;
  switch (plan.method) {
    case Method::swap:
      plan.bytes_after = plan.extra_disk_bytes = *compact;
      plan.wal_bytes = *compact * kWalPerNewByte;
      break;
    case Method::full:
      plan.bytes_after = plan.extra_disk_bytes = *compact;
      if (deleting) plan.wal_bytes = *deleting + *compact;
      break;
    default:
      if (sizes.indexes) plan.bytes_after = *sizes.total - reclaimable_in_indexes(sizes);
      plan.extra_disk_bytes = *compact / 2;
      if (deleting) plan.wal_bytes = *deleting + *compact / 2;
  }
}

/// What stands in the way of this method stands in that of every other, too.
bool is_general(const Refusal& refusal, const std::vector<Refusal>& refusals) {
  const auto same = [&](Method method) {
    return std::any_of(refusals.begin(), refusals.end(), [&](const Refusal& other) {
      return other.method == method && other.object == refusal.object &&
             other.reason == refusal.reason;
    });
  };
  return same(Method::swap) && same(Method::remove) && same(Method::full);
}

/// The next method that is possible, from the one that gives back most.
std::string alternative_to(Method method, const std::vector<Refusal>& refusals) {
  for (const Method other : {Method::swap, Method::remove})
    if (other != method && refusal_of(other, refusals) == nullptr)
      return fmt::format("; possible is --method {}", method_name(other));
  return "; no other method is possible either";
}

std::string why_refused(const Refusal& refusal, const CleanupPlan& plan) {
  if (is_general(refusal, plan.refusals)) return "nothing can be cleaned: " + describe(refusal);
  return fmt::format("{} is not possible: {}{}", method_name(plan.method), describe(refusal),
                     alternative_to(plan.method, plan.refusals));
}

}  // namespace

std::string describe(const Refusal& refusal) { return refusal.object + " " + refusal.reason; }

CleanupPlan plan_from(const Circumstances& circumstances, const CleanupOptions& options) {
  CleanupPlan plan;
  plan.refusals = circumstances.refusals;
  plan.notes = circumstances.notes;
  plan.free_disk_bytes = circumstances.room.free;
  const Sizes sizes = sizes_of(circumstances.values);
  refuse_for_want_of_room(plan, sizes, circumstances.room);
  if (options.method == Method::automatic) {
    choose(plan, sizes);
  } else {
    plan.method = options.method;
    plan.reason = "asked for";
  }
  if (const Refusal* refusal = refusal_of(plan.method, plan.refusals)) {
    plan.refused = true;
    plan.reason = why_refused(*refusal, plan);
  }
  foresee(plan, sizes);
  return plan;
}

}  // namespace django_session
