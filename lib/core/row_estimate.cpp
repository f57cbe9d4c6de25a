// Row estimates; see the header for what they rest on.
#include "core/row_estimate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace django_session {
namespace {

/// Position (0..1) of `time` among equally full buckets.
double position_in(const std::vector<double>& bounds, double time) {
  if (bounds.size() < 2 || time <= bounds.front()) return 0;
  if (time > bounds.back()) return 1;
  const auto upper = std::lower_bound(bounds.begin(), bounds.end(), time);
  const double low = *(upper - 1);
  const double high = *upper;
  const double width = high - low;  // infinite where 'infinity' has been stored
  const double within = width > 0 && std::isfinite(width) ? (time - low) / width : 0;
  const auto bucket = static_cast<double>(upper - bounds.begin() - 1);
  return (bucket + within) / static_cast<double>(bounds.size() - 1);
}

/// How many of `rows` came after the statistics, which had a fraction `deleted` that is gone.
/// reltuples dates from before that deletion, or (after a vacuum) from after it.
double rows_since_statistics(double rows, double deleted, const RelationCounters& counters) {
  if (counters.tuples < 0) return 0;
  const double left = counters.tuples <= rows ? counters.tuples : counters.tuples * (1 - deleted);
  // The sample's fraction is not exact, the number of changes is: those that came are no more than
  // all changes but the deletions that the loss of rows needs.
  const double at_most =
      counters.changed ? std::max(0.0, (*counters.changed + rows - counters.tuples) / 2) : rows;
  return std::clamp(rows - left, 0.0, std::min(at_most, rows));
}

// A vacuum's own count may be off by what was inserted and deleted while it ran, and pages differ.
constexpr double kMissing = 0.95, kSurplus = 1.1;
constexpr double kFewRows = 50;  // a share of less means nothing

/// Since when live and dead count: a vacuum or analyze on record, or the table's creation.
bool have_a_beginning(const RelationCounters& counters) {
  return counters.anchored ||
         (!counters.counted_by_vacuum() && counters.inserted + counters.live > 0);
}

/// Dead rows, but no row that could have died since VACUUM has found none.
bool died_out_of_nothing(const RelationCounters& counters) {
  return counters.counted_by_vacuum() && counters.tuples < 1 && counters.live < 1 &&
         counters.dead > 0;
}

/// Why the counters alone can't be believed; empty if they can.
std::string why_in_doubt(const RelationCounters& counters, double pages) {
  if (!counters.stand_still.empty()) return counters.stand_still;
  if (!have_a_beginning(counters))
    return "no vacuum or analyze is on record since the server's counters began";
  if (!counters.anchored || !counters.counted_by_vacuum()) return "";
  const double expected = counters.tuples_in(pages);
  if (!died_out_of_nothing(counters) && counters.live >= expected * kMissing - 1 &&
      counters.live <= expected * kSurplus + kFewRows)
    return "";
  return fmt::format(
      "the server's counters ({:.0f} live rows, {:.0f} dead) don't fit the {:.0f} rows of the last "
      "VACUUM or ANALYZE",
      counters.live, counters.dead, expected);
}

/// Whether so many rows are what was seen, as well as a sample can tell.
bool fits(double rows, const RowSample& seen) {
  const double tolerance = seen.complete() ? 0.02 : 0.15;
  return std::abs(rows - seen.all_rows()) <= tolerance * seen.all_rows() + 1;
}

}  // namespace

double ValueDistribution::sampled_fraction_before(double time) const {
  double common_total = 0;
  double common_before = 0;
  for (std::size_t i = 0; i < std::min(common_values.size(), common_frequencies.size()); ++i) {
    common_total += common_frequencies[i];
    if (common_values[i] < time) common_before += common_frequencies[i];
  }
  const double others = std::max(0.0, 1 - null_fraction - common_total);
  return std::clamp(common_before + others * position_in(histogram, time), 0.0, 1.0);
}

double ValueDistribution::fraction_before(double time) const {
  const double sampled = sampled_fraction_before(time);
  if (!counted) return sampled;
  const double at_count = sampled_fraction_before(counted->time);
  if (time == counted->time) return counted->fraction_before;
  if (time < counted->time) return at_count > 0 ? sampled * counted->fraction_before / at_count : 0;
  const double after = 1 - at_count;
  return 1 - (after > 0 ? (1 - sampled) * (1 - counted->fraction_before) / after : 0);
}

void ValueDistribution::agree_with(double expired_share, double now, std::optional<double> oldest) {
  const double at_count = sampled_fraction_before(now);
  const double deleted = oldest ? sampled_fraction_before(std::min(*oldest, now)) : 0;
  // Scaling scales what was deleted, too; solved for the share among what is left.
  const double of_before = at_count > 0 ? deleted / at_count : 0;
  const double left = 1 - of_before + expired_share * of_before;
  counted = Counted{now, left > 0 ? std::clamp(expired_share / left, 0.0, 1.0) : 0, 0};
}

bool outdated(const RelationCounters& counters, double share) {
  constexpr double kFewAnyway = 50;  // as autovacuum has it
  if (!counters.changed) return counters.anchored;
  return *counters.changed > share * counters.live + kFewAnyway;
}

RowCount estimate_rows(const RelationCounters& counters, double pages,
                       const std::optional<RowSample>& seen) {
  if (pages == 0) return {0.0, 0.0};
  std::string doubt = why_in_doubt(counters, pages);
  if (!seen && doubt.empty()) return {counters.live, counters.dead};
  if (!seen) return {Unknown{doubt}, Unknown{doubt}};
  const double rows = seen->all_rows();
  if (counters.stand_still.empty() && have_a_beginning(counters) &&
      !died_out_of_nothing(counters) && fits(counters.live, *seen))
    return {seen->complete() ? rows : counters.live, counters.dead};
  if (doubt.empty())
    doubt = fmt::format("the server counts {} live rows where there are {}{:.0f}", counters.live,
                        seen->complete() ? "" : "about ", rows);
  return {rows, Unknown{doubt}, true};
}

double rows_of_statistics(double rows, const ValueDistribution& distribution, double now,
                          std::optional<double> oldest, const RelationCounters& counters) {
  const double deleted = oldest ? distribution.fraction_before(std::min(*oldest, now)) : 0;
  return rows - rows_since_statistics(rows, deleted, counters);
}

SessionCount estimate_sessions(double rows, const ValueDistribution& distribution, double now,
                               std::optional<double> oldest, const RelationCounters& counters) {
  const double deleted = oldest ? distribution.fraction_before(std::min(*oldest, now)) : 0;
  const double left = 1 - deleted - distribution.null_fraction;
  if (left <= 0) return {rows, 0};  // all that the statistics saw is gone: what is here came later
  // Shares that together make more than all (anyone's, see statistics.sql) leave no room for the rest.
  const double expired_share =
      std::clamp((distribution.fraction_before(now) - deleted) / left, 0.0, 1.0);
  const double expired = (rows - rows_since_statistics(rows, deleted, counters)) * expired_share;
  return {rows - expired, expired};
}

}  // namespace django_session
