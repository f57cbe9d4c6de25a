// How much of a cleanup is done, and the estimate of its end.
#include "core/work_progress.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

CleanupProgress phase(const char* name, double rows = 0, double rows_total = 0) {
  return {name, rows, rows_total, 0};
}

CleanupProgress part_of_phase(const char* name, int part, int parts, double share) {
  CleanupProgress progress = phase(name);
  progress.part = part;
  progress.parts = parts;
  progress.share = share;
  return progress;
}

WorkProgress four_steps() {
  return WorkProgress(
      {{"copying", 5}, {"building indexes", 3}, {"vacuuming", 1}, {"comparing", 1}});
}

CleanupPlan plan_of(Method method) {
  CleanupPlan plan;
  plan.method = method;
  plan.live_rows = 100;
  plan.expired_rows = 900;
  plan.bytes_before = 10e9;
  plan.bytes_after = 1e9;
  return plan;
}

double all_of(const std::vector<WorkStep>& steps) {
  double sum = 0;
  for (const WorkStep& step : steps) sum += step.seconds;
  return sum;
}

}  // namespace

TEST_GROUP(WorkProgress){};

TEST(WorkProgress, counts_a_step_by_its_share) {
  WorkProgress work = four_steps();
  CHECK_FALSE(work.done(phase("creating the triggers")).has_value());
  DOUBLES_EQUAL(0.25, work.done(phase("copying", 50, 100)).value(), 1e-9);
  DOUBLES_EQUAL(0.5, work.done(phase("building indexes")).value(), 1e-9);
  DOUBLES_EQUAL(0.65, work.done(part_of_phase("building indexes", 2, 3, 0.5)).value(), 1e-9);
}

TEST(WorkProgress, what_is_no_step_comes_after_the_one_before_it) {
  WorkProgress work = four_steps();
  work.done(phase("building indexes"));
  DOUBLES_EQUAL(0.8, work.done(phase("catching up")).value(), 1e-9);
  DOUBLES_EQUAL(0.8, work.done(phase("vacuuming")).value(), 1e-9);
  DOUBLES_EQUAL(0.9, work.done(phase("catching up")).value(), 1e-9);
  DOUBLES_EQUAL(0.9, work.done(phase("comparing")).value(), 1e-9);
  DOUBLES_EQUAL(1, work.done(phase("exchanging")).value(), 1e-9);
  DOUBLES_EQUAL(0, work.done(phase("copying")).value(), 1e-9);
}

TEST(WorkProgress, an_indexs_name_follows_its_step) {
  WorkProgress work({{"vacuuming", 1}, {"rebuilding index", 1}});
  DOUBLES_EQUAL(0.75, work.done(part_of_phase("rebuilding index site_idx", 2, 2, 0)).value(), 1e-9);
  DOUBLES_EQUAL(1, work.done(phase("rebuilding indexes")).value(), 1e-9);
}

TEST(WorkProgress, is_not_known_without_the_plans_figures) {
  for (const Method method : {Method::remove, Method::swap, Method::full}) {
    CHECK(all_of(work_steps(plan_of(method))) > 0);
    CleanupPlan unknown = plan_of(method);
    unknown.bytes_after.reset();
    CHECK(work_steps(unknown).empty());
    WorkProgress work(work_steps(unknown));
    CHECK_FALSE(work.done(phase("deleting", 1, 2)).has_value());
  }
  WorkProgress nothing;
  CHECK_FALSE(nothing.done(phase("vacuuming")).has_value());
}

TEST(WorkProgress, a_swap_costs_what_is_copied_and_a_deletion_what_is_deleted) {
  CHECK(all_of(work_steps(plan_of(Method::swap))) <
        all_of(work_steps(plan_of(Method::remove))) / 4);
}

TEST_GROUP(TimeLeft){};

TEST(TimeLeft, goes_by_what_is_done_in_how_long) {
  TimeLeft time;
  CHECK_FALSE(time.seconds(0).has_value());
  time.reached(0, 100);
  time.reached(0.25, 130);
  DOUBLES_EQUAL(90, time.seconds(130).value(), 1e-9);
  DOUBLES_EQUAL(96, time.seconds(132).value(), 1e-9);
}

TEST(TimeLeft, is_not_guessed_from_little) {
  TimeLeft time;
  time.reached(0, 0);
  time.reached(0.04, 60);
  CHECK_FALSE(time.seconds(60).has_value());
  time.reached(0.5, 1);
  CHECK_FALSE(time.seconds(1).has_value());
}

TEST(TimeLeft, another_runs_work_took_none_of_our_time) {
  TimeLeft time;
  time.reached(0.5, 0);
  time.reached(0.75, 10);
  DOUBLES_EQUAL(10, time.seconds(10).value(), 1e-9);
}

TEST(TimeLeft, begins_again_with_the_work) {
  TimeLeft time;
  time.reached(0, 0);
  time.reached(0.8, 80);
  time.reached(0, 90);
  CHECK_FALSE(time.seconds(95).has_value());
  time.reached(0.5, 100);
  DOUBLES_EQUAL(10, time.seconds(100).value(), 1e-9);
}

TEST(TimeLeft, is_never_nothing_and_rounded_up) {
  TimeLeft time;
  time.reached(0, 0);
  time.reached(1, 100);
  CHECK(time.seconds(100).value() > 0);
  STRCMP_EQUAL("about 5 s left", time_left_text(0).c_str());
  STRCMP_EQUAL("about 5 s left", time_left_text(-3).c_str());
  STRCMP_EQUAL("about 25 s left", time_left_text(21).c_str());
  STRCMP_EQUAL("about 2 min left", time_left_text(61).c_str());
  STRCMP_EQUAL("about 1 h left", time_left_text(3600).c_str());
  STRCMP_EQUAL("about 1.5 h left", time_left_text(5000).c_str());
}
