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

TEST(RowEstimate, has_no_more_expired_rows_than_rows) {
  ValueDistribution distribution;  // as the table's owner may have made it up
  distribution.null_fraction = 0.5;
  distribution.common_values = {100, 200};
  distribution.common_frequencies = {0.9, 0.9};
  const SessionCount count =
      estimate_sessions(1000, distribution, 300, {}, counters(1000, 10, 1000, 0, true));
  DOUBLES_EQUAL(1000, count.expired, 0);
  DOUBLES_EQUAL(0, count.live, 0);
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

TEST(RowEstimate, trusts_counters_that_fit_the_last_vacuum_or_analyze) {
  const RowCount count = estimate_rows(counters(1000, 10, 980, 20, true), 10, {});
  DOUBLES_EQUAL(980, count.rows.as_optional().value_or(-1), 0);
  DOUBLES_EQUAL(20, count.dead.as_optional().value_or(-1), 0);
  // Twice as many pages since.
  DOUBLES_EQUAL(
      2050,
      estimate_rows(counters(1000, 10, 2050, 0, true), 20, {}).rows.as_optional().value_or(-1), 0);
}

TEST(RowEstimate, trusts_no_counters_that_do_not_fit) {
  const RelationCounters deleted_twice = counters(900, 1000, 0, 29100, true);
  const RelationCounters inserted_twice = counters(30000, 1000, 60000, 0, true);
  const RelationCounters reset = counters(1000, 10, 5, 2, false);
  const RelationCounters lost = counters(-1, 0, 0, 0, false);
  RelationCounters stopped = counters(1000, 10, 1000, 0, true);
  stopped.stand_still = "track_counts is off";
  const RelationCounters emptied_twice = counters(0, 100, 0, 9000, true);
  for (const RelationCounters& wrong :
       {deleted_twice, inserted_twice, reset, lost, stopped, emptied_twice}) {
    const RowCount count = estimate_rows(wrong, wrong.catalog_pages + 10, {});
    CHECK_FALSE(count.rows.has_value());
    CHECK_FALSE(count.dead.has_value());
    CHECK_FALSE(count.rows.reason().empty());
    CHECK_FALSE(count.dead.reason().empty());
  }
}

TEST(RowEstimate, takes_what_was_seen_where_the_counters_do_not_fit) {
  const RowCount count =
      estimate_rows(counters(900, 1000, 0, 29100, true), 1000, RowSample{0.5, 450, 0});
  DOUBLES_EQUAL(900, count.rows.as_optional().value_or(-1), 0);
  CHECK_FALSE(count.dead.has_value());
  CHECK_TRUE(count.by_sample);
}

TEST(RowEstimate, believes_the_counters_again_when_what_was_seen_fits_them) {
  // Deleted since the last vacuum, and really so.
  const RowCount count =
      estimate_rows(counters(30000, 1000, 900, 29100, true), 1000, RowSample{0.5, 430, 0});
  DOUBLES_EQUAL(900, count.rows.as_optional().value_or(-1), 0);
  DOUBLES_EQUAL(29100, count.dead.as_optional().value_or(-1), 0);
  CHECK_FALSE(count.by_sample);
}

TEST(RowEstimate, believes_in_no_dead_rows_where_the_counters_began_anew) {
  const RowCount count =
      estimate_rows(counters(1000, 10, 1000, 2, false), 10, RowSample{1, 1000, 0});
  DOUBLES_EQUAL(1000, count.rows.as_optional().value_or(-1), 0);
  CHECK_FALSE(count.dead.has_value());
}

TEST(RowEstimate, knows_that_no_pages_are_no_rows) {
  DOUBLES_EQUAL(
      0, estimate_rows(counters(-1, 0, 0, 0, false), 0, {}).rows.as_optional().value_or(-1), 0);
}

TEST(RowEstimate, counts_insertions_where_there_was_no_analyze_yet) {
  RelationCounters fresh = counters(-1, 0, 42, 1, false);
  fresh.inserted = 43;
  DOUBLES_EQUAL(42, estimate_rows(fresh, 1, {}).rows.as_optional().value_or(-1), 0);
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
