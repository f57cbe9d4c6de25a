// The plan and the summary of django_session_cleanup as text.
#include "cleanup_report.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using std::chrono::milliseconds;

namespace {

constexpr double kMb = 1024 * 1024;

CleanupPlan plan() {
  CleanupPlan plan;
  plan.method = Method::remove;
  plan.reason = "a swap is not possible";
  plan.live_rows = 98'622;
  plan.expired_rows = 2'901'378;
  plan.live_is_counted = true;
  plan.bytes_before = 1128 * kMb;
  plan.bytes_after = 585 * kMb;
  plan.extra_disk_bytes = 13 * kMb;
  plan.wal_bytes = 1154 * kMb;
  plan.least_seconds = 20.4;
  plan.most_seconds = 163;
  return plan;
}

CleanupResult result(Outcome outcome, const char* message) {
  CleanupResult result;
  result.outcome = outcome;
  result.message = message;
  result.rows_deleted = 2'901'378;
  result.bytes_before = 1'182'793'728;
  result.bytes_after = 33'554'432;
  result.duration = milliseconds(1634);
  result.longest_lock = milliseconds(3);
  return result;
}

std::string write_plan(const std::string& table, const CleanupPlan& plan,
                       const CleanupOutline& outline = {}) {
  return nagios::write_plan(table, {plan, outline});
}

std::string write_summary(const CleanupResult& result) {
  return nagios::write_summary(result, nagios::Audience::monitoring);
}

}  // namespace

TEST_GROUP(CleanupReport){};

TEST(CleanupReport, the_plan_is_for_people) {
  CleanupPlan p = plan();
  p.notes = {"pid 4711 is in the way"};
  p.refusals = {{Method::swap, "view public.v", "depends on the table"},
                {Method::full, "", "no right"}};
  STRCMP_EQUAL(
      "Plan for public.django_session\n"
      "  method     delete: a swap is not possible\n"
      "  sessions   ~2.9M expired, 98.6k live\n"
      "  size       1.1 GB now, about 585 MB afterwards\n"
      "  needs      13 MB of disk temporarily, and writes about 1.1 GB of WAL\n"
      "  fits       unknown: the server's disk is not visible from here\n"
      "  takes      about 21 s to 2.7 min, without waits for locks and replicas: half to four "
      "times "
      "as long as it took on two cores, all in memory\n"
      "  note       pid 4711 is in the way\n"
      "Not possible:\n"
      "  swap       view public.v depends on the table\n"
      "  full       no right\n",
      write_plan("public.django_session", p).c_str());
}

TEST(CleanupReport, a_refused_plan_says_so) {
  CleanupPlan p = plan();
  p.method = Method::swap;
  p.refused = true;
  p.reason = "swap is not possible: view v depends on the table; use --method delete";
  STRCMP_CONTAINS("  refused    swap is not possible: view v", write_plan("t", p).c_str());
}

TEST(CleanupReport, whether_it_fits_is_a_yes_or_a_no) {
  CleanupPlan p = plan();
  p.temporary_bytes = 5 * kMb;
  p.free_disk_bytes = 80 * kMb;
  p.fits = false;
  STRCMP_CONTAINS(
      "  needs      13 MB of disk temporarily (5 MB of it temporary files), and writes about 1.1 "
      "GB "
      "of WAL\n"
      "  fits       no: only 80 MB are free\n",
      write_plan("t", p).c_str());
  p.fits = true;
  STRCMP_CONTAINS("  fits       yes: 80 MB are free\n", write_plan("t", p).c_str());
}

TEST(CleanupReport, what_is_kept_is_told_apart) {
  CleanupPlan p = plan();
  p.keep = std::chrono::hours(7 * 24);
  p.expired_rows = 0;
  p.expired_is_counted = true;
  STRCMP_CONTAINS("  sessions   0 that expired more than 7 d ago, 98.6k others, which are kept\n",
                  write_plan("t", p).c_str());
}

TEST(CleanupReport, a_swaps_time_can_be_measured_and_no_time_is_made_up) {
  CleanupPlan p = plan();
  p.method = Method::swap;
  STRCMP_CONTAINS(" all in memory; --rehearse measures it\n", write_plan("t", p).c_str());
  p.least_seconds.reset();
  STRCMP_CONTAINS("  takes      unknown\n", write_plan("t", p).c_str());
  p.refused = true;
  CHECK(write_plan("t", p).find("takes") == std::string::npos);
}

TEST(CleanupReport, nothing_to_do_needs_nothing) {
  CleanupPlan p = plan();
  p.nothing_to_do = true;
  STRCMP_CONTAINS("  needs      nothing\n  fits       yes\n  takes      no time\n",
                  write_plan("t", p).c_str());
}

TEST(CleanupReport, the_sql_is_below_the_plan_and_cannot_look_like_a_line_of_ours) {
  const CleanupOutline outline{
      .cutoff = "",
      .goes = "those",
      .makes = "",
      .locks = "few",
      .keeps = "",
      .undo = "",
      .sql = {"-- One.\nBEGIN;\n\nSELECT 'a\nDJANGO_SESSION_CLEANUP\x1b';\n", "VACUUM t;\n"}};
  const std::string text = write_plan("t", plan(), outline);
  STRCMP_CONTAINS("\n  goes       those\n  locks      few\nSQL of the run, in this order",
                  text.c_str());
  STRCMP_CONTAINS(
      ":\n  -- One.\n  BEGIN;\n\n  SELECT 'a\n  DJANGO_SESSION_CLEANUP?';\n  VACUUM t;\n",
      text.c_str());
  STRCMP_CONTAINS("the server's disk is not visible from here\n", write_plan("t", plan()).c_str());
}

TEST(CleanupReport, what_is_in_the_way_of_several_methods_is_said_once) {
  CleanupPlan p = plan();
  for (const Method method : {Method::remove, Method::swap, Method::full})
    p.refusals.push_back({method, "the server's clock", "is wrong"});
  STRCMP_CONTAINS("Not possible:\n  delete, swap, full the server's clock is wrong\n",
                  write_plan("t", p).c_str());
}

TEST(CleanupReport, names_cannot_break_a_line) {
  CleanupPlan p = plan();
  p.notes = {"a\nb"};
  STRCMP_CONTAINS("  note       a?b\n", write_plan("t", p).c_str());
}

TEST(CleanupReport, the_summary_is_one_line_with_perfdata) {
  STRCMP_EQUAL(
      "DJANGO_SESSION_CLEANUP DONE - swap: all well | deleted=2901378 before=1182793728B "
      "after=33554432B reclaimed=1149239296B duration=1.634s longest_lock=0.003s\n",
      write_summary(result(Outcome::done, "swap: all well")).c_str());
}

TEST(CleanupReport, a_person_gets_no_perfdata) {
  STRCMP_EQUAL(
      "DJANGO_SESSION_CLEANUP DONE - swap: all well\n",
      nagios::write_summary(result(Outcome::done, "swap: all well"), nagios::Audience::person)
          .c_str());
}

TEST(CleanupReport, every_outcome_has_its_word) {
  STRCMP_CONTAINS(" STOPPED - ", write_summary(result(Outcome::stopped, "x")).c_str());
  STRCMP_CONTAINS(" FAILED - ", write_summary(result(Outcome::failed, "x")).c_str());
  STRCMP_CONTAINS(" REFUSED - ", write_summary(result(Outcome::refused, "x")).c_str());
}

TEST(CleanupReport, growth_is_not_negative_gain) {
  CleanupResult grown = result(Outcome::stopped, "x");
  grown.bytes_after = *grown.bytes_before + 1;
  STRCMP_CONTAINS("reclaimed=0B", write_summary(grown).c_str());
}

TEST(CleanupReport, a_message_cannot_begin_perfdata_or_a_line) {
  STRCMP_CONTAINS(" - a/b?c | deleted", write_summary(result(Outcome::done, "a|b\nc")).c_str());
}

TEST(CleanupReport, what_is_unknown_is_not_zero) {
  CleanupResult failed;
  failed.outcome = Outcome::failed;
  failed.message = "no server";
  STRCMP_EQUAL("DJANGO_SESSION_CLEANUP FAILED - no server | duration=0.000s longest_lock=0.000s\n",
               write_summary(failed).c_str());
  failed.bytes_before = 8192;
  failed.rows_deleted = 0;
  STRCMP_CONTAINS(" | deleted=0 before=8192B duration=", write_summary(failed).c_str());
}

TEST(CleanupReport, a_plan_says_what_is_unknown_and_why) {
  CleanupPlan p;
  p.reason = "as requested";
  p.bytes_before = 8 * kMb;
  p.unknown = "no statistics yet: ANALYZE public.django_session";
  STRCMP_EQUAL(
      "Plan for t\n"
      "  method     delete: as requested\n"
      "  sessions   unknown expired, unknown live\n"
      "  size       8 MB now, unknown afterwards\n"
      "  needs      unknown\n"
      "  fits       unknown: the server's disk is not visible from here\n"
      "  takes      unknown\n"
      "  unknown    no statistics yet: ANALYZE public.django_session\n",
      write_plan("t", p).c_str());
}

TEST(CleanupReport, the_rows_of_a_swap_are_an_estimate) {
  CleanupResult swap = result(Outcome::done, "x");
  swap.method = Method::swap;
  STRCMP_EQUAL("~2.9M", rows_deleted_text(swap).c_str());
  swap.method = Method::remove;
  STRCMP_EQUAL("2.9M", rows_deleted_text(swap).c_str());
  swap.rows_deleted.reset();
  STRCMP_EQUAL("unknown", rows_deleted_text(swap).c_str());
}
