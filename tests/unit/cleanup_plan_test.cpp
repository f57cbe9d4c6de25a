// Which method, and why: the decision on made-up circumstances.
#include "core/cleanup_plan.hpp"

#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kMb = 1024 * 1024;

MetricValue known(double number) { return {number, Certainty::estimated, ""}; }

/// A neglected site's: 3 % live. 20 MB of it would be left of the table, 10 of its one index.
Circumstances neglected() {
  Circumstances c;
  c.values[Metric::live] = known(30'000);
  c.values[Metric::expired] = known(970'000);
  c.values[Metric::total] = known(1000 * kMb);
  c.values[Metric::reclaimable] = known(970 * kMb);
  c.afresh = SizesAfresh{20 * kMb, 0, {{"i", 500 * kMb, 10 * kMb}}};
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
  chosen(Method::swap, "gives back 970 MB and rewrites 30 MB", neglected());
}

TEST(CleanupPlan, else_delete) {
  Circumstances little = neglected();
  little.values[Metric::total] = known(583 * kMb);
  chosen(Method::remove,
         "a swap (--method swap) would give back only 63 MB more; it pays above 64 MB", little);

  Circumstances lively = neglected();
  lively.afresh->table = 411 * kMb;
  chosen(Method::remove,
         "a swap (--method swap) would give back 89 MB more, but rewrite 42% of the bytes; it pays "
         "up to 40%",
         lively);

  Circumstances not_analyzed = neglected();
  not_analyzed.values[Metric::expired] = MetricValue::unknown("no statistics yet");
  chosen(Method::remove, "what a swap would give back is unknown: no statistics yet", not_analyzed);

  Circumstances with_a_view = neglected();
  with_a_view.refusals = {{Method::swap, "view public.v", "depends on the table"}};
  chosen(Method::remove, "a swap is not possible: view public.v depends on the table", with_a_view);
}

TEST(CleanupPlan, a_swap_where_nothing_else_is_possible) {
  Circumstances c = neglected();
  c.values[Metric::total] = known(530 * kMb);
  c.refusals = {{Method::remove, "rule r", "replaces each DELETE"}};
  chosen(Method::swap, "a deletion is not possible: rule r replaces each DELETE", c);
}

TEST(CleanupPlan, bytes_decide_and_not_rows) {
  Circumstances cleaned = neglected();  // but not compacted
  cleaned.values[Metric::live] = known(30'000);
  cleaned.values[Metric::expired] = known(0);
  chosen(Method::swap, "gives back 970 MB and rewrites 30 MB", cleaned);
}

TEST(CleanupPlan, the_thresholds_themselves_are_good_for_a_swap) {
  Circumstances c = neglected();
  c.afresh->table = 390 * kMb;  // and 10 of the index
  CHECK_TRUE(planned(c).method == Method::swap);
  c = neglected();
  c.values[Metric::total] = known(584 * kMb);  // 490 of it a deletion would give back
  CHECK_TRUE(planned(c).method == Method::swap);
}

TEST(CleanupPlan, an_interrupted_swap_is_gone_on_with) {
  Circumstances c = neglected();
  c.values[Metric::total] = known(583 * kMb);
  c.interrupted_swap_age = 8 * 24 * 3600;
  chosen(Method::swap, "resumes the interrupted swap", c);
  CHECK_TRUE(planned(c, Method::remove).method == Method::remove);
  c.interrupted_swap_age = 8 * 24 * 3600 + 1;
  CHECK_TRUE(planned(c).method == Method::remove);
  c.interrupted_swap_age = 60;
  c.refusals = {{Method::swap, "view public.v", "depends on the table"}};
  CHECK_TRUE(planned(c).method == Method::remove);
}

TEST(CleanupPlan, a_role_gives_back_what_it_may) {
  Circumstances c = neglected();
  DOUBLES_EQUAL(510 * kMb, *planned(c, Method::remove).bytes_after, 1);
  c.giving_back = {true, false, ""};
  DOUBLES_EQUAL(1000 * kMb, *planned(c, Method::remove).bytes_after, 1);
  c.giving_back = {false, false, "not vacuumed: role r may not"};
  const CleanupPlan plan = planned(c, Method::remove);
  DOUBLES_EQUAL(1000 * kMb, *plan.bytes_after, 1);
  STRCMP_EQUAL("not vacuumed: role r may not", plan.left_to_others.c_str());
  CHECK_TRUE(all_notes(plan) == std::vector<std::string>{plan.left_to_others});
  CHECK_TRUE(planned(c, Method::full).notes.at(0).find("VACUUM FULL") != std::string::npos);
}

TEST(CleanupPlan, nothing_to_do_is_said) {
  Circumstances c = neglected();
  c.values[Metric::expired] = {0, Certainty::exact, ""};
  c.afresh->indexes[0].bytes = 10 * kMb;
  const CleanupPlan plan = planned(c, Method::remove);
  CHECK_TRUE(plan.nothing_to_do);
  STRCMP_EQUAL("nothing to do: no session has expired", plan.reason.c_str());
  CHECK_FALSE(planned(c, Method::swap).nothing_to_do);  // it gives free space back
  c.values[Metric::expired].certainty = Certainty::estimated;
  CHECK_FALSE(planned(c, Method::remove).nothing_to_do);
}

TEST(CleanupPlan, what_a_swap_does_though_nothing_has_expired_is_said) {
  Circumstances c = neglected();
  c.values[Metric::expired] = {0, Certainty::exact, ""};
  c.values[Metric::total] = known(30 * kMb);
  c.afresh->indexes = {{"i", 10 * kMb, 10 * kMb}};
  const CleanupPlan plan = planned(c, Method::swap);
  CHECK_FALSE(plan.nothing_to_do);
  STRCMP_EQUAL("as requested, though no session has expired", plan.reason.c_str());
  DOUBLES_EQUAL(30 * kMb, plan.extra_disk_bytes.value(), 1);
}

TEST(CleanupPlan, no_standby_replays_a_vacuum_that_is_not_done) {
  Circumstances c = neglected();
  c.standbys = {"standby replica"};
  c.giving_back = {false, false, "not vacuumed"};
  const CleanupPlan plan = planned(c, Method::remove);
  CHECK_TRUE(plan.notes.empty());
}

TEST(CleanupPlan, standbys_are_named_with_what_they_will_notice) {
  Circumstances c = neglected();
  c.standbys = {"standby replica"};
  STRCMP_CONTAINS("standby replica will replay an exclusive lock",
                  planned(c, Method::swap).notes.at(0).c_str());
  STRCMP_CONTAINS("standby replica will replay the VACUUM",
                  planned(c, Method::remove).notes.at(0).c_str());
}

TEST(CleanupPlan, what_is_in_the_way_of_everything_is_no_methods_fault) {
  Circumstances c = neglected();
  for (const Method method : {Method::swap, Method::remove, Method::full})
    c.refusals.push_back({method, "the server's clock", "is wrong"});
  STRCMP_EQUAL("nothing can be cleaned: the server's clock is wrong", planned(c).reason.c_str());
}

TEST(CleanupPlan, what_is_asked_for_is_done_or_refused_with_what_is_possible) {
  Circumstances c = neglected();
  STRCMP_EQUAL("as requested", planned(c, Method::full).reason.c_str());
  c.refusals = {{Method::swap, "view v", "depends on the table"}};
  const CleanupPlan refused = planned(c, Method::swap);
  CHECK_TRUE(refused.refused);
  STRCMP_EQUAL("swap is not possible: view v depends on the table; use --method delete",
               refused.reason.c_str());
  c.refusals.push_back({Method::remove, "role r", "has no right"});
  STRCMP_EQUAL(
      "swap is not possible: view v depends on the table; no other method is possible either",
      planned(c, Method::swap).reason.c_str());
  CHECK_TRUE(planned(c).refused);
}

namespace {

/// On which everything is.
void one_disk(Circumstances& c, double free) {
  const DiskRoom disk{free, "/srv/pg", "1"};
  c.room = {disk, {}, disk, {disk}, std::nullopt};
}

}  // namespace

TEST(CleanupPlan, a_swap_that_is_resumed_needs_no_room_for_what_is_there) {
  Circumstances c = neglected();
  one_disk(c, 10 * kMb);
  CHECK_TRUE(planned(c, Method::swap).refused);
  c.interrupted_swap_age = 60;
  c.interrupted_swap_bytes = c.afresh->total();
  CHECK_FALSE(planned(c, Method::swap).refused);
  c.interrupted_swap_age = 9 * 24 * 3600;  // begun afresh
  CHECK_TRUE(planned(c, Method::swap).refused);
}

TEST(CleanupPlan, a_new_table_needs_room_on_the_disk) {
  Circumstances c = neglected();
  one_disk(c, 63 * kMb);  // 30 MB for the table, 33 for its WAL
  CHECK_TRUE(planned(c).method == Method::swap);
  CHECK_TRUE(*planned(c).fits);
  one_disk(c, 62.9 * kMb);
  chosen(Method::remove,
         "a swap is not possible: the server's disk has 62.9 MB free in /srv/pg, not the 63 MB "
         "needed for the new table, its indexes and WAL",
         c);
  CHECK_TRUE(planned(c, Method::full).refused);
  CHECK_FALSE(planned(c, Method::remove).refused);
  CHECK_FALSE(planned(neglected()).fits.has_value());
}

TEST(CleanupPlan, each_file_system_gets_what_goes_there) {
  Circumstances c = neglected();  // the new table 20 MB, its index 10, WAL 33
  const DiskRoom table{21 * kMb, "/table", "1"}, index{11 * kMb, "/index", "2"},
      wal{34 * kMb, "/wal", "3"}, temporary{12 * kMb, "/temporary", "4"};
  c.room = {table, {{"i", index}}, wal, {temporary}, std::nullopt};
  c.sorting.memory = 19 * kMb;
  CHECK_TRUE(*planned(c, Method::swap).fits);
  const auto lacks = [&c](DiskRoom& room, double free, const char* reason) {
    const double before = *room.free;
    room.free = free;
    const CleanupPlan plan = planned(c, Method::swap);
    CHECK_TRUE(plan.refused);
    CHECK_FALSE(*plan.fits);
    STRCMP_CONTAINS(reason, plan.reason.c_str());
    CHECK_TRUE(planned(c).method == Method::remove);
    room.free = before;
  };
  lacks(c.room.table, 19 * kMb,
        "has 19 MB free in /table, not the 20 MB needed for the new table;");
  lacks(c.room.indexes["i"], 9 * kMb,
        "has 9 MB free in /index, not the 10 MB needed for its indexes;");
  lacks(c.room.wal, 32 * kMb, "has 32 MB free in /wal, not the 33 MB needed for WAL;");
  lacks(c.room.temporary[0], 10 * kMb,
        "has 10 MB free in /temporary, not the 11 MB needed for temporary");
  c.room.wal_kept = 30 * kMb;
  c.room.wal.free = 32 * kMb;
  CHECK_TRUE(*planned(c, Method::swap).fits);
}

TEST(CleanupPlan, what_shares_a_file_system_adds_up_there) {
  Circumstances c = neglected();
  const DiskRoom table{29 * kMb, "/table", "1"}, index{29 * kMb, "/index", "1"},
      wal{34 * kMb, "/wal", "2"};
  c.room = {table, {{"i", index}}, wal, {}, std::nullopt};
  STRCMP_CONTAINS(
      "has 29 MB free in /table, not the 30 MB needed for the new table and its indexes",
      planned(c, Method::swap).reason.c_str());
}

TEST(CleanupPlan, what_cannot_be_seen_is_named) {
  Circumstances c = neglected();
  const DiskRoom table{99 * kMb, "/table", "1"}, hidden{std::nullopt, "/wal", ""};
  c.room = {table, {}, hidden, {}, std::nullopt};
  const CleanupPlan plan = planned(c, Method::swap);
  CHECK_FALSE(plan.fits.has_value());
  STRCMP_EQUAL("/wal, for WAL", plan.disk.c_str());
  c.room.table.free = 10 * kMb;
  CHECK_FALSE(*planned(c, Method::swap).fits);
}

TEST(CleanupPlan, an_index_that_is_not_sorted_in_memory_needs_temporary_files) {
  Circumstances c = neglected();
  DOUBLES_EQUAL(0, *planned(c).temporary_bytes, 1);
  c.sorting.memory = 19 * kMb;
  DOUBLES_EQUAL(11 * kMb, *planned(c).temporary_bytes, 1);
  DOUBLES_EQUAL(41 * kMb, *planned(c).extra_disk_bytes, 1);
  c.sorting.temporary_files_max = 10 * kMb;
  STRCMP_CONTAINS("a swap is not possible: the server's temp_file_limit is 10 MB",
                  planned(c).reason.c_str());
  CHECK_TRUE(planned(c, Method::full).refused);
}

TEST(CleanupPlan, the_cost_is_that_of_the_method) {
  const CleanupPlan swap = planned(neglected());
  DOUBLES_EQUAL(30 * kMb, *swap.bytes_after, 1);
  DOUBLES_EQUAL(30 * kMb, *swap.extra_disk_bytes, 1);
  const CleanupPlan remove = planned(neglected(), Method::remove);
  DOUBLES_EQUAL(510 * kMb, *remove.bytes_after, 1);  // the heap stays as large as it is
  CHECK_TRUE(*remove.wal_bytes > *swap.wal_bytes);

  Circumstances unknown = neglected();
  unknown.values[Metric::reclaimable] = MetricValue::unknown("no statistics yet");
  unknown.afresh.reset();
  const CleanupPlan plan = planned(unknown);
  CHECK_FALSE(plan.bytes_after || plan.extra_disk_bytes || plan.wal_bytes);
  STRCMP_EQUAL("no statistics yet", plan.unknown.c_str());
}

TEST(CleanupPlan, a_time_is_foreseen_where_all_figures_are_known) {
  for (const Method method : {Method::remove, Method::swap, Method::full}) {
    const CleanupPlan plan = planned(neglected(), method);
    CHECK(plan.least_seconds.value() > 1);
    DOUBLES_EQUAL(8, (*plan.most_seconds - 5) / (*plan.least_seconds - 1), 1e-9);
  }
  Circumstances unknown = neglected();
  unknown.afresh.reset();
  CHECK_FALSE(planned(unknown).least_seconds.has_value());
  Circumstances refused = neglected();
  refused.refusals = {{Method::swap, "view v", "depends on the table"}};
  CHECK_FALSE(planned(refused, Method::swap).most_seconds.has_value());
}
