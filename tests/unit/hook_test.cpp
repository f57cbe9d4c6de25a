// From values to cleanups, messages and counters, with a made-up cleanup and clock.
#include "plugin/hook.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "hook_fixture.hpp"

using namespace django_session;
using namespace django_session::plugin;

TEST_GROUP_BASE(Hook, HookFixture){};

TEST(Hook, notifies_of_the_start_and_the_end) {
  Hook the_hook = hook();
  alert(the_hook);
  STRCMP_EQUAL("OKAY site: cleanup ended: as wanted",
               journal.await("OKAY site: cleanup ended").c_str());
  STRCMP_EQUAL(
      "OKAY site: cleanup starts (method delete): reclaimable is 12.5 GB (Trigger "
      "\"reclaimable=1GB\")",
      journal.await("OKAY site: cleanup starts").c_str());
  STRCMP_EQUAL("log site: cleanup: one line", journal.await("one line").c_str());
}

TEST(Hook, says_how_far_a_cleanup_came_that_was_stopped) {
  result.outcome = Outcome::stopped;
  Hook the_hook = hook();
  alert(the_hook);
  STRCMP_EQUAL(
      "WARNING site: cleanup stopped before its end: as wanted (1k sessions deleted, 1.9 GB -> 477 "
      "MB, 1.5 s, longest lock 20 ms)",
      journal.await("WARNING site: cleanup stopped").c_str());
}

TEST(Hook, says_all_of_that_in_the_log_too) {
  Hook the_hook = hook();
  alert(the_hook);
  CHECK_TRUE(!journal.await("log site: cleanup starts").empty());
  CHECK_TRUE(!journal.await("log site: cleanup ended").empty());
}

TEST(Hook, tells_a_cleanup_that_failed_from_one_that_was_stopped) {
  struct Case {
    Outcome outcome;
    const char* message;
  };
  for (const Case& test :
       {Case{Outcome::failed, "FAILURE site: cleanup failed: as wanted"},
        {Outcome::refused, "FAILURE site: cleanup refused: as wanted"},
        {Outcome::stopped, "WARNING site: cleanup stopped before its end: as wanted (1k"}}) {
    result.outcome = test.outcome;
    Hook the_hook = hook();
    alert(the_hook);
    CHECK_TRUE(!journal.await(test.message).empty());
  }
}

TEST(Hook, survives_a_cleanup_that_throws) {
  run.run = [](const auto&, const auto&, const auto&) -> CleanupResult {
    throw std::runtime_error("out of luck");
  };
  Hook the_hook = hook();
  alert(the_hook);
  STRCMP_EQUAL("FAILURE site: cleanup failed: out of luck", journal.await("FAILURE").c_str());
  await_ended(the_hook);
  STRCMP_CONTAINS("total_operations-cleanup_failed=1000", samples_of(the_hook).c_str());
}

TEST(Hook, obeys_this_hosts_values_alone_by_default) {
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("elsewhere"), kTooMuch);
  the_hook.on_value({"here", "shop", "bytes", "reclaimable", true, true}, kTooMuch);
  the_hook.on_value({"here", "site", "bytes", "index_x", true, true}, kTooMuch);
  LONGS_EQUAL(0, runs);
  alert(the_hook);
  CHECK_TRUE(!journal.await("cleanup ended").empty());
  LONGS_EQUAL(1, runs);
}

TEST(Hook, obeys_a_named_host_or_any) {
  settings.cleanup->host = "db1";
  Hook named = hook();
  alert(named);
  named.on_value(reclaimable_of("db2"), kTooMuch);
  LONGS_EQUAL(0, runs);
  named.on_value(reclaimable_of("db1"), kTooMuch);
  CHECK_TRUE(!journal.await("cleanup ended").empty());
  settings.cleanup->host = "*";
  Hook any = hook();
  any.on_value(reclaimable_of("db7"), kTooMuch);
  await_ended(any);
  LONGS_EQUAL(2, runs);
}

TEST(Hook, takes_no_hosts_word_for_being_this_one) {
  for (const char* host : {"", "here", "*"}) {
    settings.cleanup->host = host;
    Hook the_hook = hook();
    for (int i = 0; i < 100; ++i) the_hook.on_value(reclaimable_of("here"), kTooMuch);
    LONGS_EQUAL(0, runs);
  }
  LONGS_EQUAL(3, journal.count("log site: values under this host's name that this daemon hasn't "
                               "measured are ignored (now reclaimable)"));
}

TEST(Hook, obeys_this_host_where_it_is_named) {
  settings.cleanup->host = "here";
  Hook the_hook = hook();
  alert(the_hook);
  CHECK_TRUE(!journal.await("cleanup ended").empty());
}

TEST(Hook, returns_at_once_while_a_cleanup_runs_and_starts_no_second_one) {
  go_on = false;
  Hook the_hook = hook();
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) alert(the_hook);
  CHECK_TRUE(std::chrono::steady_clock::now() - started < 1s);
  CHECK_TRUE(!journal.await("one line").empty());
  go_on = true;
  CHECK_TRUE(!journal.await("OKAY site: cleanup ended").empty());
  LONGS_EQUAL(1, runs);
}

TEST(Hook, says_once_why_it_waits) {
  Hook the_hook = hook();
  alert(the_hook);
  await_ended(the_hook);
  for (int i = 0; i < 10; ++i) alert(the_hook);
  LONGS_EQUAL(1, journal.count("the last cleanup didn't end that"));
  LONGS_EQUAL(1, runs);
  hours += 2;
  alert_until(the_hook, 2);
  the_hook.request_stop();
  the_hook.join();
  LONGS_EQUAL(2, runs);
}

TEST(Hook, names_the_host_whose_value_it_is_if_that_is_another) {
  settings.cleanup->host = "*";
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("db7"), kTooMuch);
  STRCMP_EQUAL(
      "OKAY site: cleanup starts (method delete): on db7: reclaimable is 12.5 GB (Trigger "
      "\"reclaimable=1GB\")",
      journal.await("OKAY site: cleanup starts").c_str());
  await_ended(the_hook);
  the_hook.on_value(reclaimable_of("db7"), kTooMuch);
  STRCMP_CONTAINS("log site: on db7: reclaimable is 12.5 GB",
                  journal.await("the last cleanup didn't end that").c_str());
}

TEST(Hook, says_again_why_it_waits_after_days_of_silence) {
  settings.cleanup->rules.cooldown = 1000h;
  Hook the_hook = hook();
  alert(the_hook);
  await_ended(the_hook);
  alert(the_hook);
  hours += 48;
  alert(the_hook);
  LONGS_EQUAL(1, journal.count("the last cleanup didn't end that"));
  hours += 49;
  alert(the_hook);
  LONGS_EQUAL(2, journal.count("the last cleanup didn't end that"));
}

TEST(Hook, counts_its_cleanups) {
  Hook the_hook = hook();
  STRCMP_EQUAL(
      "total_operations-cleanup=0 total_operations-cleanup_failed=0 "
      "total_objects-deleted=0 total_bytes-reclaimed=0 bool-cleaning=0 ",
      samples_of(the_hook).c_str());
  alert(the_hook);
  await_ended(the_hook);
  STRCMP_EQUAL(
      "total_operations-cleanup=1000 total_operations-cleanup_failed=0 "
      "total_objects-deleted=1000000 total_bytes-reclaimed=1500000000000 "
      "bool-cleaning=0 duration-cleanup=1500 duration-cleanup_lock=20 ",
      samples_of(the_hook).c_str());
}

TEST(Hook, claims_no_figures_of_a_program) {
  run.has_figures = false;
  result.rows_deleted = result.bytes_before = result.bytes_after = std::nullopt;
  Hook the_hook = hook();
  alert(the_hook);
  STRCMP_EQUAL("OKAY site: cleanup ended: as wanted",
               journal.await("OKAY site: cleanup ended").c_str());
  await_ended(the_hook);
  CHECK_TRUE(samples_of(the_hook).find("cleanup_lock") == std::string::npos);
}

TEST(Hook, keeps_a_notification_within_255_bytes) {
  result.message = std::string(251, 'x') + "\xc3\xa4\xc3\xa4";
  Hook the_hook = hook();
  alert(the_hook);
  const std::string line = journal.await("OKAY site: cleanup ended");
  CHECK_TRUE(line.size() <= 5 + 255 && line.substr(line.size() - 3) == "...");
}

TEST(Hook, ends_within_its_time_and_starts_nothing_after) {
  go_on = false;
  result.outcome = Outcome::stopped;
  Hook the_hook = hook();
  alert(the_hook);
  journal.await("one line");
  const auto asked = std::chrono::steady_clock::now();
  the_hook.request_stop();
  the_hook.join();
  CHECK_TRUE(std::chrono::steady_clock::now() - asked < 1s);
  hours += 1000;
  alert(the_hook);
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(1, journal.count("log site: cleanup stopped before its end"));
}

TEST(Hook, notifies_nobody_once_the_daemon_stops) {
  go_on = false;
  result.outcome = Outcome::stopped;
  Hook the_hook = hook();
  alert(the_hook);
  journal.await("one line");
  the_hook.request_stop();
  the_hook.join();
  LONGS_EQUAL(1, journal.count("log site: cleanup stopped before its end"));
  LONGS_EQUAL(0, journal.count("WARNING"));
}

TEST(Hook, counts_and_says_once_that_it_waits_for_a_notification_that_hangs) {
  std::atomic<bool> hangs = true, is_told = false;
  HookOutput out = output();
  out.notify = [&](Severity, const std::string& line) {
    is_told = line.find("cleanup ended") != std::string::npos;
    while (hangs && is_told) std::this_thread::sleep_for(1ms);
  };
  Hook the_hook(settings, "site", out, run);
  alert(the_hook);
  await_ended(the_hook);
  while (!is_told) std::this_thread::sleep_for(1ms);
  for (int i = 0; i < 3; ++i) {
    hours += 1000;
    alert(the_hook);
  }
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(1, journal.count("cleanups are stalled: one of collectd's plugins has been busy with "
                               "a notification for over 1 min"));
  hangs = false;
  alert_until(the_hook, 2);
  LONGS_EQUAL(2, runs);
}

TEST(Hook, is_not_deaf_after_a_value_that_came_while_the_end_was_told) {
  settings.cleanup->rules.cooldown = std::chrono::seconds(0);
  Hook* the_hook = nullptr;
  HookOutput out = output();
  out.notify = [&](Severity, const std::string& line) {
    if (runs == 1 && line.find("cleanup ended") != std::string::npos) {
      the_hook->on_value(reclaimable_of("here", true), 0);
      hours += 1000;
      alert(*the_hook);
    }
    journal.add(line);
  };
  Hook made(settings, "site", out, run);
  the_hook = &made;
  alert(made);
  await_ended(made);
  hours += 1000;
  alert_until(made, 2);
  await_ended(made, 2);
  LONGS_EQUAL(2, runs);
}

TEST(Hook, is_not_deaf_after_an_output_that_throws) {
  HookOutput out = output();
  out.notify = [](Severity, const std::string&) { throw std::runtime_error("no room"); };
  Hook the_hook(settings, "site", out, run);
  alert(the_hook);
  await_ended(the_hook);
  LONGS_EQUAL(1, runs);
  STRCMP_CONTAINS("total_operations-cleanup=1000", samples_of(the_hook).c_str());
}

TEST(Hook, counts_nothing_that_is_not_known) {
  result.outcome = Outcome::stopped;
  result.rows_deleted = result.bytes_before = result.bytes_after = std::nullopt;
  Hook the_hook = hook();
  alert(the_hook);
  STRCMP_CONTAINS("(unknown sessions deleted, ",
                  journal.await("WARNING site: cleanup stopped").c_str());
  await_ended(the_hook);
  STRCMP_CONTAINS("total_objects-deleted=0 total_bytes-reclaimed=0", samples_of(the_hook).c_str());
}

TEST(Hook, says_nothing_any_more_when_it_was_cut_off) {
  const auto token = std::make_shared<int>();  // held as long as the thread or the hook is there
  settings.timeout_seconds = 0.001;
  go_on = false;
  run.run = [this, token](const CleanupCause&, const StopSignal&, const auto& log) {
    log("one line");
    while (!go_on) std::this_thread::sleep_for(1ms);
    log("one line too many");
    return result;
  };
  {
    Hook the_hook = hook();
    run.run = nullptr;
    alert(the_hook);
    journal.await("one line");
    the_hook.request_stop();
    the_hook.join();
    STRCMP_CONTAINS("was abandoned", journal.lines().back().c_str());
    go_on = true;
  }
  for (int i = 0; i < 500 && token.use_count() > 1; ++i) std::this_thread::sleep_for(10ms);
  LONGS_EQUAL(1, token.use_count());
  STRCMP_CONTAINS("was abandoned", journal.lines().back().c_str());
}

TEST(Hook, takes_values_from_many_threads) {
  Hook the_hook = hook();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 5; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 200; ++j) {
          the_hook.on_value(reclaimable_of("here", true), j % 3 == 0 ? 0 : kTooMuch);
          if (j % 50 == 0) ++hours;
          the_hook.samples();
        }
      });
  }
  the_hook.request_stop();
  the_hook.join();
  LONGS_EQUAL(runs.load(), journal.count("log site: cleanup starts"));
}

TEST(Hook, takes_any_number_of_invented_hosts_without_growing_or_chattering) {
  settings.cleanup->host = "*";
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("db1"), kTooMuch);
  await_ended(the_hook);
  const std::size_t before = journal.lines().size();
  for (int i = 0; i < 20'000; ++i)
    the_hook.on_value(reclaimable_of("invented" + std::to_string(i)), kTooMuch);
  LONGS_EQUAL(1, runs);
  CHECK_TRUE(journal.lines().size() <= before + 2);
}

TEST(Hook, says_that_a_failure_is_over) {
  result.outcome = Outcome::failed;
  Hook the_hook = hook();
  alert(the_hook);
  CHECK_TRUE(!journal.await("FAILURE site: cleanup failed").empty());
  for (int i = 0; i < 500 && journal.count("OKAY site: cleanup no longer") == 0; ++i) {
    the_hook.on_value(reclaimable_of("here", true), 512.0 * 1048576);
    std::this_thread::sleep_for(10ms);
  }
  STRCMP_EQUAL("OKAY site: cleanup no longer needed: reclaimable is 512 MB (the last one: failed)",
               journal.await("OKAY site: cleanup no longer").c_str());
  for (int i = 0; i < 10; ++i) the_hook.on_value(reclaimable_of("here", true), 0);
  the_hook.request_stop();
  the_hook.join();
  LONGS_EQUAL(1, journal.count("OKAY site: cleanup no longer"));
}

TEST(Hook, does_not_call_a_failure_over_by_trying_again) {
  result.outcome = Outcome::failed;
  Hook the_hook = hook();
  alert(the_hook);
  await_ended(the_hook);
  result.outcome = Outcome::done;
  hours += 2;
  alert_until(the_hook, 2);
  CHECK_TRUE(!journal.await("OKAY site: cleanup ended").empty());
  LONGS_EQUAL(1, journal.count("OKAY site: cleanup starts"));
  LONGS_EQUAL(1, journal.count("FAILURE site: cleanup starts"));
}

TEST(Hook, warns_only_of_another_cleanup_that_is_there_each_time) {
  result.outcome = Outcome::stopped;
  result.left_to_another = true;
  result.message = "another cleanup of this table is running";
  Hook the_hook = hook();
  for (int i = 1; i <= 3; ++i) {
    alert_until(the_hook, i);
    for (int j = 0; j < 500 && journal.count("cleanup put off: another") < 2 * i; ++j)
      std::this_thread::sleep_for(10ms);
    LONGS_EQUAL(i / 3, journal.count("WARNING"));
    hours += 1;
  }
  LONGS_EQUAL(
      2, journal.count("OKAY site: cleanup put off: another cleanup of this table is running"));
  STRCMP_CONTAINS("total_operations-cleanup=0 total_operations-cleanup_failed=0",
                  samples_of(the_hook).c_str());
  LONGS_EQUAL(0, journal.count("didn't end that"));
}

TEST(Hook, tells_that_a_cleanup_is_running) {
  go_on = false;
  Hook the_hook = hook();
  alert(the_hook);
  journal.await("one line");
  STRCMP_CONTAINS("bool-cleaning=1000", samples_of(the_hook).c_str());
  go_on = true;
  await_ended(the_hook);
  STRCMP_CONTAINS("bool-cleaning=0", samples_of(the_hook).c_str());
}
