// Rows and sessions by the planner's statistics.
#include "core/row_estimate.hpp"

#include <limits>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

/// 101 bounds, one value a second from 0 to 1000: as ANALYZE leaves them for evenly spread times.
ValueDistribution evenly_spread() {
  ValueDistribution distribution;
  for (int i = 0; i <= 100; ++i) distribution.histogram.push_back(i * 10);
  return distribution;
}

RelationCounters counters(double tuples, double pages, double live, double dead, bool anchored) {
  RelationCounters result;
  result.tuples = tuples;
  result.catalog_pages = pages;
  result.live = live;
  result.dead = dead;
  result.anchored = anchored;
  return result;
}

}  // namespace

TEST_GROUP(RowEstimate){};

TEST(RowEstimate, interpolates_within_a_bucket) {
  const ValueDistribution distribution = evenly_spread();
  DOUBLES_EQUAL(0.0, distribution.fraction_before(-5), 1e-9);
  DOUBLES_EQUAL(0.255, distribution.fraction_before(255), 1e-9);
  DOUBLES_EQUAL(1.0, distribution.fraction_before(1001), 1e-9);
}

TEST(RowEstimate, counts_common_values_and_nulls) {
  ValueDistribution distribution = evenly_spread();
  distribution.null_fraction = 0.1;
  distribution.common_values = {100, 900};
  distribution.common_frequencies = {0.2, 0.3};
  DOUBLES_EQUAL(0.2 + 0.4 * 0.5, distribution.fraction_before(500), 1e-9);
}

TEST(RowEstimate, survives_infinite_bounds) {
  ValueDistribution distribution;
  const double infinity = std::numeric_limits<double>::infinity();
  distribution.histogram = {-infinity, 0, 100, infinity};
  DOUBLES_EQUAL(1.0 / 3 + 0.5 / 3, distribution.fraction_before(50), 1e-9);
  DOUBLES_EQUAL(2.0 / 3, distribution.fraction_before(1e12), 1e-9);
  DOUBLES_EQUAL(0.0, distribution.fraction_before(-1e12), 1e-9);
}

TEST(RowEstimate, agrees_with_a_count_and_keeps_the_shape_around_it) {
  ValueDistribution distribution = evenly_spread();
  distribution.counted = ValueDistribution::Counted{900, 0.95};
  DOUBLES_EQUAL(0.95, distribution.fraction_before(900), 1e-9);
  DOUBLES_EQUAL(0.975, distribution.fraction_before(950), 1e-9);
  DOUBLES_EQUAL(0.475, distribution.fraction_before(450), 1e-9);
}

TEST(RowEstimate, trusts_counters_that_a_vacuum_or_analyze_has_anchored) {
  const RowCount count = estimate_rows(counters(1000, 10, 700, 300, true), 10);
  DOUBLES_EQUAL(700, count.rows.value_or(-1), 0);
  DOUBLES_EQUAL(300, count.dead.value_or(-1), 0);
}

TEST(RowEstimate, scales_reltuples_by_pages_after_a_statistics_reset) {
  const RowCount count = estimate_rows(counters(1000, 10, 5, 2, false), 20);
  DOUBLES_EQUAL(2000, count.rows.value_or(-1), 0);
  CHECK_FALSE(count.dead.has_value());
}

TEST(RowEstimate, knows_that_no_pages_are_no_rows) {
  DOUBLES_EQUAL(0, estimate_rows(counters(-1, 0, 0, 0, false), 0).rows.value_or(-1), 0);
}

TEST(RowEstimate, counts_insertions_where_there_was_no_analyze_yet) {
  RelationCounters fresh = counters(-1, 0, 42, 1, false);
  fresh.inserted = 43;
  DOUBLES_EQUAL(42, estimate_rows(fresh, 1).rows.value_or(-1), 0);
}

TEST(RowEstimate, says_unknown_where_nobody_knows) {
  CHECK_FALSE(estimate_rows(counters(-1, 0, 0, 0, false), 100).rows.has_value());
}

struct Split {
  const char* what;
  double rows, now, oldest, tuples;  // oldest < 0: not known
  double live, expired;
  std::optional<double> changed = std::nullopt;
};

TEST(RowEstimate, splits_sessions_as_time_and_deletions_go_on) {
  const std::vector<Split> cases = {
      {"as analyzed", 1000, 970, 0, 1000, 30, 970},
      {"oldest not known", 1000, 970, -1, 1000, 30, 970},
      {"time has passed since", 1000, 990, 0, 1000, 10, 990},
      {"all expired deleted, not vacuumed", 30, 970, 970, 1000, 30, 0},
      {"all expired deleted and vacuumed", 30, 970, 975, 30, 30, 0},
      {"half of all deleted, not vacuumed", 500, 970, 500, 1000, 30, 470},
      {"half of all deleted and vacuumed", 500, 970, 500, 500, 30, 470},
      {"new sessions since are live", 1090, 970, 0, 1000, 120, 970},
      {"nothing came, although more were left than the sample says", 520, 970, 500, 1000, 31, 489,
       480},
      {"as many came as changes allow", 520, 970, 500, 1000, 40.6, 479.4, 500},
      {"changes before a vacuum allow anything", 540, 970, 500, 500, 70, 470, 9000},
      {"everything older than the statistics is gone", 50, 2000, 1500, 1000, 50, 0},
  };
  for (const Split& expected : cases) {
    const std::optional<double> oldest =
        expected.oldest < 0 ? std::nullopt : std::optional(expected.oldest);
    const SessionCount count =
        estimate_sessions(expected.rows, evenly_spread(), expected.now, oldest,
                          {.tuples = expected.tuples, .changed = expected.changed});
    DOUBLES_EQUAL_TEXT(expected.live, count.live, 1, expected.what);
    DOUBLES_EQUAL_TEXT(expected.expired, count.expired, 1, expected.what);
  }
}
