// Which method, and why: the decision on made-up circumstances.
#include "core/cleanup_plan.hpp"

#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kMb = 1024 * 1024;

MetricValue known(double number) { return {number, Certainty::estimated, ""}; }

/// A neglected site's: 3 % live, 97 % of the bytes to reclaim.
Circumstances neglected() {
  Circumstances c;
  c.values[Metric::live] = known(30'000);
  c.values[Metric::expired] = known(970'000);
  c.values[Metric::total] = known(1000 * kMb);
  c.values[Metric::indexes] = known(500 * kMb);
  c.values[Metric::reclaimable] = known(970 * kMb);
  return c;
}

CleanupPlan planned(const Circumstances& circumstances, Method method = Method::automatic) {
  CleanupOptions options;
  options.method = method;
  return plan_from(circumstances, options);
}

void chosen(Method method, const char* reason, const Circumstances& circumstances) {
  const CleanupPlan plan = planned(circumstances);
  STRCMP_EQUAL(std::string(method_name(method)).c_str(),
               std::string(method_name(plan.method)).c_str());
  STRCMP_EQUAL(reason, plan.reason.c_str());
  CHECK_FALSE(plan.refused);
}

}  // namespace

TEST_GROUP(CleanupPlan){};

TEST(CleanupPlan, a_swap_where_it_pays) {
  chosen(Method::swap, "a swap gives back 970 MB and copies 3% of the sessions", neglected());
}

TEST(CleanupPlan, else_delete) {
  Circumstances little = neglected();
  little.values[Metric::reclaimable] = known(255 * kMb);
  chosen(Method::remove, "255 MB to give back is less than the 256 MB that a swap is worth",
         little);

  Circumstances lively = neglected();
  lively.values[Metric::live] = known(710'000);
  chosen(Method::remove,
         "42% of the sessions are live, more than the 40% up to which a swap pays", lively);

  Circumstances not_analyzed = neglected();
  not_analyzed.values[Metric::live] = MetricValue::unknown("no statistics yet");
  chosen(Method::remove, "it isn't known what a swap would give back: no statistics yet",
         not_analyzed);

  Circumstances with_a_view = neglected();
  with_a_view.refusals = {{Method::swap, "view public.v", "depends on the table"}};
  chosen(Method::remove, "a swap is not possible: view public.v depends on the table", with_a_view);
}

TEST(CleanupPlan, the_thresholds_themselves_are_good_for_a_swap) {
  Circumstances c = neglected();
  c.values[Metric::reclaimable] = known(kSwapWorthBytes);
  c.values[Metric::live] = known(400'000);
  c.values[Metric::expired] = known(600'000);
  CHECK_TRUE(planned(c).method == Method::swap);
}

TEST(CleanupPlan, what_is_asked_for_is_done_or_refused_with_what_is_possible) {
  Circumstances c = neglected();
  STRCMP_EQUAL("asked for", planned(c, Method::full).reason.c_str());
  c.refusals = {{Method::swap, "view v", "depends on the table"}};
  const CleanupPlan refused = planned(c, Method::swap);
  CHECK_TRUE(refused.refused);
  STRCMP_EQUAL("swap is not possible: view v depends on the table; possible is --method delete",
               refused.reason.c_str());
  c.refusals.push_back({Method::remove, "role r", "has no right"});
  STRCMP_EQUAL(
      "swap is not possible: view v depends on the table; no other method is possible either",
      planned(c, Method::swap).reason.c_str());
  CHECK_TRUE(planned(c).refused);
}

TEST(CleanupPlan, a_new_table_needs_room_on_the_disk) {
  Circumstances c = neglected();
  c.room = {60 * kMb, "/srv/pg"};  // 30 MB for the table, as much for its WAL
  CHECK_TRUE(planned(c).method == Method::swap);
  c.room.free = 59 * kMb;
  chosen(Method::remove,
         "a swap is not possible: the server's disk has 59 MB free in /srv/pg: the new table and "
         "its WAL take 60 MB",
         c);
  CHECK_TRUE(planned(c, Method::full).refused);
  CHECK_FALSE(planned(c, Method::remove).refused);
}

TEST(CleanupPlan, the_cost_is_that_of_the_method) {
  const CleanupPlan swap = planned(neglected());
  DOUBLES_EQUAL(30 * kMb, *swap.bytes_after, 1);
  DOUBLES_EQUAL(30 * kMb, *swap.extra_disk_bytes, 1);
  const CleanupPlan remove = planned(neglected(), Method::remove);
  DOUBLES_EQUAL(515 * kMb, *remove.bytes_after, 1);  // the heap stays as large as it is
  CHECK_TRUE(*remove.wal_bytes > *swap.wal_bytes);

  Circumstances unknown = neglected();
  unknown.values[Metric::reclaimable] = MetricValue::unknown("no statistics yet");
  const CleanupPlan plan = planned(unknown);
  CHECK_FALSE(plan.bytes_after || plan.extra_disk_bytes || plan.wal_bytes);
  STRCMP_EQUAL("no statistics yet", plan.unknown.c_str());
}
