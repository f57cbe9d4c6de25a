// When a cleanup starts and when it waits, with a made-up clock.
#include "core/cleanup_policy.hpp"

#include <limits>
#include <string>
#include <vector>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace std::chrono_literals;

namespace {

constexpr double kGiga = 1073741824;
constexpr int kNoon = 12 * 60;

std::string word(Verdict verdict) {
  switch (verdict) {
    case Verdict::calm:
      return "calm";
    case Verdict::over:
      return "over";
    case Verdict::start:
      return "start";
    case Verdict::running:
      return "running";
    case Verdict::cooling_down:
      return "cooling down";
    case Verdict::of_no_use:
      return "of no use";
    case Verdict::outside_window:
      break;
  }
  return "outside window";
}

CleanupResult result(Outcome outcome, double rows_deleted = 0) {
  CleanupResult made;
  made.outcome = outcome;
  made.rows_deleted = rows_deleted;
  return made;
}

}  // namespace

TEST_GROUP(CleanupPolicy) {
  CleanupRules rules;
  std::chrono::steady_clock::time_point start_of_time{1000h};
  std::chrono::seconds elapsed{0};
  std::chrono::hours wall_clock{490'000};  // since 1970
  int minute_of_day = kNoon;
  CleanupPolicy policy{{}};
  std::string reason;

  void setup() override {
    rules.triggers = {parse_trigger("reclaimable=1GB"), parse_trigger("overdue=2d")};
    policy = CleanupPolicy(rules);
  }

  void set_windows(const std::vector<std::string>& texts) {
    rules.windows.clear();
    for (const std::string& text : texts) rules.windows.push_back(parse_window(text));
    policy = CleanupPolicy(rules);
  }

  Moment now() const {
    return {start_of_time + elapsed, minute_of_day,
            std::chrono::system_clock::time_point(wall_clock + elapsed)};
  }

  std::string judged(double value, Metric metric = Metric::reclaimable,
                     const std::string& host = "db1") {
    const CleanupDecision decision = policy.judge(host, metric, value, now());
    reason = decision.reason;
    return word(decision.verdict);
  }

  std::string too_much() { return judged(12.5 * kGiga); }
  std::string little() { return judged(1000); }

  void ends(Outcome outcome = Outcome::done) { policy.ended(result(outcome), now()); }

  /// Starts a cleanup and ends it at once, with the trigger still alerting.
  void clean_in_vain(Outcome outcome = Outcome::done) {
    STRCMP_EQUAL("start", too_much().c_str());
    ends(outcome);
  }

  /// Lets time pass until the next cleanup starts.
  long minutes_until_start() {
    long minutes = 0;
    for (; too_much() != "start"; ++minutes) elapsed += 1min;
    return minutes;
  }
};

TEST(CleanupPolicy, starts_when_a_value_passes_its_trigger) {
  STRCMP_EQUAL("calm", judged(kGiga).c_str());
  STRCMP_EQUAL("start", judged(kGiga + 1).c_str());
}

TEST(CleanupPolicy, gives_the_value_and_the_trigger_as_its_reason) {
  too_much();
  STRCMP_EQUAL("reclaimable is 12.5 GB (Trigger \"reclaimable=1GB\")", reason.c_str());
}

TEST(CleanupPolicy, starts_by_any_one_of_its_triggers) {
  STRCMP_EQUAL("calm", judged(100, Metric::overdue).c_str());
  STRCMP_EQUAL("start", judged(200000, Metric::overdue).c_str());
}

TEST(CleanupPolicy, has_no_opinion_on_a_metric_without_trigger) {
  STRCMP_EQUAL("calm", judged(1e15, Metric::total).c_str());
  STRCMP_EQUAL("", reason.c_str());
}

TEST(CleanupPolicy, takes_a_range_that_alerts_inside) {
  rules.triggers = {parse_trigger("expired_percent=@50:90")};
  policy = CleanupPolicy(rules);
  STRCMP_EQUAL("calm", judged(95, Metric::expired_percent).c_str());
  STRCMP_EQUAL("start", judged(60, Metric::expired_percent).c_str());
}

TEST(CleanupPolicy, never_starts_by_an_unknown_value) {
  STRCMP_EQUAL("calm", judged(std::numeric_limits<double>::quiet_NaN()).c_str());
  STRCMP_EQUAL("calm", judged(std::numeric_limits<double>::infinity()).c_str());
}

TEST(CleanupPolicy, does_not_take_an_unknown_value_for_a_success) {
  clean_in_vain();
  judged(std::numeric_limits<double>::quiet_NaN());
  elapsed += 90min;
  STRCMP_EQUAL("of no use", too_much().c_str());
}

TEST(CleanupPolicy, starts_no_second_one_while_one_runs) {
  too_much();
  elapsed += 24h;
  STRCMP_EQUAL("running", too_much().c_str());
  STRCMP_EQUAL("running", judged(1e9, Metric::overdue).c_str());
  STRCMP_CONTAINS(", and a cleanup is running", reason.c_str());
}

TEST(CleanupPolicy, counts_the_cooldown_from_the_end_of_the_last_one) {
  too_much();
  elapsed += 5h;
  little();
  ends();
  elapsed += 59min + 59s;
  STRCMP_EQUAL("cooling down", too_much().c_str());
  STRCMP_EQUAL(
      "reclaimable is 12.5 GB (Trigger \"reclaimable=1GB\"), but the last cleanup ended "
      "1 h ago: the next may start in 1 s (Cooldown)",
      reason.c_str());
  elapsed += 1s;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, starts_at_once_again_without_a_cooldown) {
  rules.cooldown = 0s;
  policy = CleanupPolicy(rules);
  too_much();
  little();
  ends();
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, doubles_its_wait_while_cleanups_are_of_no_use_up_to_a_week) {
  too_much();
  for (const auto wait : {2h, 4h, 8h, 16h, 32h, 64h, 128h, 168h, 168h}) {
    ends();
    LONGS_EQUAL(std::chrono::minutes(wait).count(), minutes_until_start());
  }
}

TEST(CleanupPolicy, says_that_and_why_it_waits_longer) {
  clean_in_vain();
  elapsed += 2h;
  clean_in_vain();
  elapsed += 1h;
  STRCMP_EQUAL("of no use", too_much().c_str());
  STRCMP_EQUAL(
      "reclaimable is 12.5 GB (Trigger \"reclaimable=1GB\"), but the last 2 cleanups "
      "didn't end that: the next may start in 3 h (the wait, now 4 h, doubles each time, "
      "up to 7 d)",
      reason.c_str());
}

TEST(CleanupPolicy, is_reset_by_the_first_value_that_no_longer_alerts) {
  for (const auto wait : {2h, 4h, 8h}) {
    clean_in_vain();
    elapsed += wait;
  }
  too_much();
  ends();
  little();
  elapsed += 1h;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, takes_a_value_from_before_the_end_that_arrives_after_it_for_no_verdict) {
  too_much();
  ends();
  too_much();  // measured before the end
  little();
  elapsed += 1h;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, forgets_nothing_that_its_wait_keeps_silent) {
  rules.cooldown = std::chrono::hours(30 * 24);
  policy = CleanupPolicy(rules);
  clean_in_vain();
  elapsed += std::chrono::hours(30 * 24);
  clean_in_vain();
  STRCMP_EQUAL("of no use", too_much().c_str());
  STRCMP_CONTAINS("but the last 2 cleanups didn't end that", reason.c_str());
}

TEST(CleanupPolicy, counts_failures_as_of_no_use) {
  clean_in_vain(Outcome::failed);
  elapsed += 2h - 1s;
  STRCMP_EQUAL("of no use", too_much().c_str());
  elapsed += 1s;
  clean_in_vain(Outcome::refused);
  elapsed += 4h - 1s;
  STRCMP_EQUAL("of no use", too_much().c_str());
}

TEST(CleanupPolicy, goes_on_after_the_plain_cooldown_with_one_that_was_stopped_at_work) {
  for (int i = 0; i < 5; ++i) {
    STRCMP_EQUAL("start", too_much().c_str());
    policy.ended(result(Outcome::stopped, 1000), now());
    elapsed += 1h - 1s;
    STRCMP_EQUAL("cooling down", too_much().c_str());
    elapsed += 1s;
  }
}

TEST(CleanupPolicy, waits_longer_after_one_that_was_stopped_before_it_did_anything) {
  clean_in_vain(Outcome::stopped);
  elapsed += 1h;
  STRCMP_EQUAL("of no use", too_much().c_str());
}

TEST(CleanupPolicy, does_not_double_a_wait_of_nothing) {
  rules.cooldown = 0s;
  policy = CleanupPolicy(rules);
  clean_in_vain();
  elapsed += 119s;
  STRCMP_EQUAL("of no use", too_much().c_str());
  elapsed += 1s;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, keeps_a_cooldown_of_more_than_a_week) {
  rules.cooldown = std::chrono::hours(30 * 24);
  policy = CleanupPolicy(rules);
  clean_in_vain();
  elapsed += std::chrono::hours(30 * 24) - 1s;
  STRCMP_EQUAL("of no use", too_much().c_str());
  elapsed += 1s;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, lets_the_table_wait_whoever_triggers) {
  clean_in_vain();
  elapsed += 90min;
  STRCMP_EQUAL("of no use", judged(200000, Metric::overdue).c_str());
  for (const char* host : {"db2", "db3", "db4", "db5"})
    STRCMP_EQUAL("of no use", judged(12.5 * kGiga, Metric::reclaimable, host).c_str());
  elapsed += 30min;
  STRCMP_EQUAL("start", judged(12.5 * kGiga, Metric::reclaimable, "db2").c_str());
  ends();
  LONGS_EQUAL(std::chrono::minutes(4h).count(), minutes_until_start());
}

TEST(CleanupPolicy, does_not_take_another_hosts_or_metrics_calm_for_a_success) {
  clean_in_vain();
  STRCMP_EQUAL("calm", judged(0, Metric::reclaimable, "db2").c_str());
  STRCMP_EQUAL("calm", judged(0, Metric::overdue).c_str());
  elapsed += 1h;
  STRCMP_EQUAL("of no use", too_much().c_str());
}

TEST(CleanupPolicy, says_once_that_what_a_cleanup_was_for_is_over) {
  clean_in_vain(Outcome::failed);
  CHECK_TRUE(policy.trouble() == Outcome::failed);
  const CleanupDecision decision = policy.judge("db1", Metric::reclaimable, kGiga / 2, now());
  STRCMP_EQUAL("over", word(decision.verdict).c_str());
  STRCMP_EQUAL("reclaimable is 512 MB", decision.reason.c_str());
  CHECK_TRUE(decision.trouble == Outcome::failed);
  CHECK_TRUE(!policy.trouble());
  STRCMP_EQUAL("calm", little().c_str());
}

TEST(CleanupPolicy, says_again_what_could_not_be_told) {
  clean_in_vain(Outcome::failed);
  STRCMP_EQUAL("over", little().c_str());
  policy.not_told();
  STRCMP_EQUAL("over", little().c_str());
  STRCMP_EQUAL("calm", little().c_str());
}

TEST(CleanupPolicy, has_no_trouble_after_a_success) {
  clean_in_vain(Outcome::failed);
  elapsed += 2h;
  clean_in_vain();
  CHECK_TRUE(!policy.trouble());
}

TEST(CleanupPolicy, takes_one_that_another_was_quicker_than_for_neither_useless_nor_failed) {
  too_much();
  CleanupResult left = result(Outcome::stopped);
  left.left_to_another = true;
  policy.ended(left, now());
  CHECK_TRUE(!policy.trouble());
  elapsed += 1h - 1s;
  STRCMP_EQUAL("cooling down", too_much().c_str());
  elapsed += 1s;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, blames_no_cleanup_for_the_daemons_end) {
  too_much();
  policy.interrupted(now());
  CHECK_TRUE(!policy.trouble());
  elapsed += 1h;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, asks_again_whether_one_is_due_that_had_to_wait_for_its_turn) {
  set_windows({"01:00-05:00"});
  minute_of_day = 299;
  STRCMP_EQUAL("start", too_much().c_str());
  CHECK_TRUE(policy.is_still_due(now()));
  minute_of_day = 300;
  CHECK_FALSE(policy.is_still_due(now()));
  minute_of_day = 299;
  little();
  CHECK_FALSE(policy.is_still_due(now()));
}

TEST_GROUP_BASE(CleanupPast, TEST_GROUP_CppUTestGroupCleanupPolicy){
    /// A new daemon, so much later by the wall clock and with a steady clock of its own.
    void restart(std::chrono::seconds later){const CleanupPast past = policy.past();
policy = CleanupPolicy(rules);
elapsed += later;
start_of_time = std::chrono::steady_clock::time_point(-elapsed);
policy.recall(past, now());
}
}
;

TEST(CleanupPast, of_a_new_table_is_empty) {
  CHECK_TRUE(policy.past() == CleanupPast{});
  restart(1s);
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPast, keeps_the_cooldown) {
  too_much();
  little();
  ends();
  restart(59min);
  STRCMP_EQUAL("cooling down", too_much().c_str());
  restart(59s);
  STRCMP_EQUAL("cooling down", too_much().c_str());
  restart(1s);
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPast, keeps_the_doubled_waits_and_what_ends_them) {
  clean_in_vain();
  elapsed += 2h;
  clean_in_vain(Outcome::failed);
  restart(4h - 1s);
  STRCMP_EQUAL("of no use", too_much().c_str());
  CHECK_TRUE(policy.trouble() == Outcome::failed);
  STRCMP_EQUAL("calm", judged(0, Metric::reclaimable, "db2").c_str());
  STRCMP_EQUAL("over", little().c_str());
  restart(0s);
  STRCMP_EQUAL("calm", little().c_str());
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPast, counts_one_that_nobody_saw_the_end_of) {
  too_much();
  policy.began(now());
  restart(2h - 1s);
  STRCMP_EQUAL("of no use", too_much().c_str());
  restart(1s);
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPast, waits_anew_where_the_end_lies_in_the_future) {
  clean_in_vain();
  little();
  restart(-std::chrono::hours(24 * 365));
  elapsed += 1h - 1s;
  STRCMP_EQUAL("cooling down", too_much().c_str());
  elapsed += 1s;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPast, that_is_lost_costs_a_cooldown) {
  policy.suppose_the_worst(now());
  elapsed += 1h - 1s;
  STRCMP_EQUAL("cooling down", too_much().c_str());
  restart(1s);
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, waits_until_the_window_opens) {
  set_windows({"01:00-05:00"});
  minute_of_day = 59;
  STRCMP_EQUAL("outside window", too_much().c_str());
  STRCMP_EQUAL(
      "reclaimable is 12.5 GB (Trigger \"reclaimable=1GB\"), but a cleanup may start only within "
      "01:00-05:00 (Window)",
      reason.c_str());
  minute_of_day = 60;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, does_not_start_in_the_minute_in_which_the_window_ends) {
  set_windows({"01:00-05:00"});
  minute_of_day = 300;
  STRCMP_EQUAL("outside window", too_much().c_str());
  minute_of_day = 299;
  STRCMP_EQUAL("start", too_much().c_str());
}

TEST(CleanupPolicy, takes_windows_across_midnight_and_more_than_one) {
  struct Case {
    int minute_of_day;
    bool starts;
  };
  for (const Case& test : {Case{22 * 60 - 1, false},
                           {22 * 60, true},
                           {0, true},
                           {119, true},
                           {120, false},
                           {719, false},
                           {720, true},
                           {779, true},
                           {780, false}}) {
    set_windows({"22:00-02:00", "12:00-13:00"});
    minute_of_day = test.minute_of_day;
    STRCMP_EQUAL(test.starts ? "start" : "outside window", too_much().c_str());
  }
}

TEST(CleanupPolicy, asks_for_the_cooldown_before_the_window) {
  set_windows({"01:00-05:00"});
  minute_of_day = 120;
  too_much();
  ends();
  little();
  minute_of_day = kNoon;
  STRCMP_EQUAL("cooling down", too_much().c_str());
  elapsed += 2h;
  STRCMP_EQUAL("outside window", too_much().c_str());
}

TEST_GROUP(TimeWindow){};

TEST(TimeWindow, is_read_and_written) {
  for (const char* text : {"01:00-05:00", "22:30-02:15", "00:00-24:00", "23:59-00:00"})
    STRCMP_EQUAL(text, format_window(parse_window(text)).c_str());
}

TEST(TimeWindow, of_a_whole_day_contains_every_minute) {
  const TimeWindow day = parse_window("00:00-24:00");
  CHECK_TRUE(day.contains(0) && day.contains(1439));
}

TEST(TimeWindow, is_refused_with_the_place_and_an_example) {
  const auto why = [](std::string_view text) { return refusal([&] { parse_window(text); }); };
  STRCMP_EQUAL(
      "cannot read \"01:00\" as a window at its end: the '-' is missing, for example 01:00-05:00",
      why("01:00").c_str());
  STRCMP_EQUAL(
      "cannot read \"1:00-05:00\" as a window: a time of day has the form 01:00, for "
      "example 01:00-05:00",
      why("1:00-05:00").c_str());
  STRCMP_CONTAINS("at \"25:00\"", why("01:00-25:00").c_str());
  STRCMP_CONTAINS("it is empty", why("01:00-01:00").c_str());
  for (const char* text : {"", "-", "01:00-", "-05:00", "24:00-01:00", "01:60-02:00", "01:00-24:01",
                           "01.00-05.00", "0100-0500", "01:00 - 05:00", "aa:bb-cc:dd"})
    CHECK_TRUE(!why(text).empty());
}

TEST_GROUP(MetricOfSample){};

TEST(MetricOfSample, follows_the_vocabulary) {
  for (const MetricInfo& metric : all_metrics())
    CHECK_TRUE(metric_of_sample(metric.collectd_type, metric.collectd_type_instance) ==
               metric.metric);
}

TEST(MetricOfSample, knows_no_others) {
  CHECK_TRUE(!metric_of_sample("bytes", "index_django_session_pkey"));
  CHECK_TRUE(!metric_of_sample("bytes", ""));
  CHECK_TRUE(!metric_of_sample("duration", "cleanup"));
  CHECK_TRUE(!metric_of_sample("percent", "table"));
}

TEST(CleanupPolicy, starts_again_after_a_start_that_was_taken_back) {
  STRCMP_EQUAL("start", too_much().c_str());
  STRCMP_EQUAL("running", too_much().c_str());
  policy.not_started();
  STRCMP_EQUAL("start", too_much().c_str());
}
