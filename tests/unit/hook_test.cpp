// From values to cleanups, messages and counters, with a made-up cleanup and clock.
#include "plugin/hook.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "plugin/past_file.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

constexpr double kTooMuch = 12.5 * 1073741824;

/// What the hook said, in the order in which it did.
class Journal {
 public:
  void add(std::string line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
  }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  /// Waits for a line that contains `text`; the line, or "".
  std::string await(const std::string& text) const {
    for (int i = 0; i < 500; ++i) {
      for (const std::string& line : lines())
        if (line.find(text) != std::string::npos) return line;
      std::this_thread::sleep_for(10ms);
    }
    return "";
  }
  long count(const std::string& text) const {
    const auto all = lines();
    return std::count_if(all.begin(), all.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

std::string severity_name(Severity severity) {
  return severity == Severity::okay      ? "OKAY"
         : severity == Severity::warning ? "WARNING"
                                         : "FAILURE";
}

ValueName reclaimable_of(std::string_view host, bool measured_here = false) {
  return {host, "site", "bytes", "reclaimable", measured_here, host == "here"};
}

}  // namespace

TEST_GROUP(Hook) {
  DatabaseSettings settings;
  Journal journal;
  std::atomic<int> runs = 0;
  std::atomic<bool> go_on = false;
  std::atomic<long> hours = 1000;
  CleanupResult result;
  CleanupRun run;

  void setup() override {
    settings.instance = "site";
    settings.timeout_seconds = 1;
    settings.cleanup.emplace();
    settings.cleanup->rules.triggers = {parse_trigger("reclaimable=1GB")};
    run.what = "method delete";
    run.run = [this](const CleanupCause&, const StopSignal& stop, const auto& log) {
      ++runs;
      log("one line");
      while (!go_on && !stop.requested()) std::this_thread::sleep_for(1ms);
      return result;
    };
    go_on = true;
    result.message = "as wanted";
    result.rows_deleted = 1000;
    result.bytes_before = 2e9;
    result.bytes_after = 5e8;
    result.duration = 1500ms;
    result.longest_lock = 20ms;
  }

  HookOutput output() {
    return {[this](LogLevel, const std::string& line) { journal.add("log " + line); },
            [this](Severity severity, const std::string& line) {
              journal.add(severity_name(severity) + " " + line);
            },
            [this] {
              return Moment{
                  std::chrono::steady_clock::time_point{} + std::chrono::hours(hours), 720,
                  std::chrono::system_clock::time_point{} + std::chrono::hours(490'000 + hours)};
            }};
  }

  /// Waits until so many cleanups are over, their counters included.
  static void await_ended(const Hook& hook, double cleanups = 1) {
    for (int i = 0; i < 500 && hook.samples().front().value < cleanups; ++i)
      std::this_thread::sleep_for(10ms);
  }

  /// Values until so many cleanups have begun: the last one's thread may still be about to end.
  void alert_until(Hook & hook, int cleanups) const {
    for (int i = 0; i < 500 && runs < cleanups; ++i) {
      hook.on_value(reclaimable_of("here", true), kTooMuch);
      std::this_thread::sleep_for(10ms);
    }
  }

  Hook hook() { return Hook(settings, "site", output(), run); }

  /// In a collectd of others, which take turns.
  Hook hook(const std::string& instance, std::shared_ptr<CleanupTurns> turns) {
    HookOutput out = output();
    out.turns = std::move(turns);
    settings.instance = instance;
    return Hook(settings, instance, out, run);
  }

  std::string samples_of(const Hook& hook) {
    std::string text;
    for (const Sample& sample : hook.samples())
      text += std::string(sample.type) + "-" + sample.type_instance + "=" +
              std::to_string(static_cast<long>(sample.value * 1000)) + " ";
    return text;
  }
};

TEST(Hook, notifies_of_the_start_and_the_end) {
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  STRCMP_EQUAL(
      "WARNING site: cleanup stopped before its end: as wanted (1k sessions deleted, 1.9 GB -> 477 "
      "MB, 1.5 s, longest lock 20 ms)",
      journal.await("WARNING site: cleanup stopped").c_str());
}

TEST(Hook, says_all_of_that_in_the_log_too) {
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
    the_hook.on_value(reclaimable_of("here", true), kTooMuch);
    CHECK_TRUE(!journal.await(test.message).empty());
  }
}

TEST(Hook, survives_a_cleanup_that_throws) {
  run.run = [](const auto&, const auto&, const auto&) -> CleanupResult {
    throw std::runtime_error("out of luck");
  };
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  CHECK_TRUE(!journal.await("cleanup ended").empty());
  LONGS_EQUAL(1, runs);
}

TEST(Hook, obeys_a_named_host_or_any) {
  settings.cleanup->host = "db1";
  Hook named = hook();
  named.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  CHECK_TRUE(!journal.await("cleanup ended").empty());
}

TEST(Hook, returns_at_once_while_a_cleanup_runs_and_starts_no_second_one) {
  go_on = false;
  Hook the_hook = hook();
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  CHECK_TRUE(std::chrono::steady_clock::now() - started < 1s);
  CHECK_TRUE(!journal.await("one line").empty());
  go_on = true;
  CHECK_TRUE(!journal.await("OKAY site: cleanup ended").empty());
  LONGS_EQUAL(1, runs);
}

TEST(Hook, says_once_why_it_waits) {
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  await_ended(the_hook);
  for (int i = 0; i < 10; ++i) the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  await_ended(the_hook);
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  hours += 48;
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  LONGS_EQUAL(1, journal.count("the last cleanup didn't end that"));
  hours += 49;
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  LONGS_EQUAL(2, journal.count("the last cleanup didn't end that"));
}

TEST(Hook, counts_its_cleanups) {
  Hook the_hook = hook();
  STRCMP_EQUAL(
      "total_operations-cleanup=0 total_operations-cleanup_failed=0 "
      "total_objects-deleted=0 total_bytes-reclaimed=0 bool-cleaning=0 ",
      samples_of(the_hook).c_str());
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  STRCMP_EQUAL("OKAY site: cleanup ended: as wanted",
               journal.await("OKAY site: cleanup ended").c_str());
  await_ended(the_hook);
  CHECK_TRUE(samples_of(the_hook).find("cleanup_lock") == std::string::npos);
}

TEST(Hook, keeps_a_notification_within_255_bytes) {
  result.message = std::string(251, 'x') + "\xc3\xa4\xc3\xa4";
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  const std::string line = journal.await("OKAY site: cleanup ended");
  CHECK_TRUE(line.size() <= 5 + 255 && line.substr(line.size() - 3) == "...");
}

TEST(Hook, ends_within_its_time_and_starts_nothing_after) {
  go_on = false;
  result.outcome = Outcome::stopped;
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  journal.await("one line");
  const auto asked = std::chrono::steady_clock::now();
  the_hook.request_stop();
  the_hook.join();
  CHECK_TRUE(std::chrono::steady_clock::now() - asked < 1s);
  hours += 1000;
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(1, journal.count("log site: cleanup stopped before its end"));
}

TEST(Hook, notifies_nobody_once_the_daemon_stops) {
  go_on = false;
  result.outcome = Outcome::stopped;
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  await_ended(the_hook);
  while (!is_told) std::this_thread::sleep_for(1ms);
  for (int i = 0; i < 3; ++i) {
    hours += 1000;
    the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  }
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(1, journal.count("no cleanup goes on or starts: one of collectd's plugins has been "
                               "busy with a notification for over 1 min"));
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
      the_hook->on_value(reclaimable_of("here", true), kTooMuch);
    }
    journal.add(line);
  };
  Hook made(settings, "site", out, run);
  the_hook = &made;
  made.on_value(reclaimable_of("here", true), kTooMuch);
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  await_ended(the_hook);
  LONGS_EQUAL(1, runs);
  STRCMP_CONTAINS("total_operations-cleanup=1000", samples_of(the_hook).c_str());
}

TEST(Hook, counts_nothing_that_is_not_known) {
  result.outcome = Outcome::stopped;
  result.rows_deleted = result.bytes_before = result.bytes_after = std::nullopt;
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  STRCMP_CONTAINS("(unknown sessions deleted, ",
                  journal.await("WARNING site: cleanup stopped").c_str());
  await_ended(the_hook);
  STRCMP_CONTAINS("total_objects-deleted=0 total_bytes-reclaimed=0", samples_of(the_hook).c_str());
}

TEST(Hook, says_nothing_any_more_when_it_was_cut_off) {
  const auto token = std::make_shared<int>();  // held as long as the thread or the hook is there
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
    the_hook.on_value(reclaimable_of("here", true), kTooMuch);
    journal.await("one line");
    the_hook.request_stop(1h);
    the_hook.join();
    STRCMP_CONTAINS("is cut off", journal.lines().back().c_str());
    go_on = true;
  }
  for (int i = 0; i < 500 && token.use_count() > 1; ++i) std::this_thread::sleep_for(10ms);
  LONGS_EQUAL(1, token.use_count());
  STRCMP_CONTAINS("is cut off", journal.lines().back().c_str());
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
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  CHECK_TRUE(!journal.await("FAILURE site: cleanup failed").empty());
  for (int i = 0; i < 500 && journal.count("OKAY site: cleanup no longer") == 0; ++i) {
    the_hook.on_value(reclaimable_of("here", true), 512.0 * 1048576);
    std::this_thread::sleep_for(10ms);
  }
  STRCMP_EQUAL(
      "OKAY site: cleanup no longer needed: reclaimable is 512 MB; that the last one "
      "failed is over",
      journal.await("OKAY site: cleanup no longer").c_str());
  for (int i = 0; i < 10; ++i) the_hook.on_value(reclaimable_of("here", true), 0);
  the_hook.request_stop();
  the_hook.join();
  LONGS_EQUAL(1, journal.count("OKAY site: cleanup no longer"));
}

TEST(Hook, does_not_call_a_failure_over_by_trying_again) {
  result.outcome = Outcome::failed;
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
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
  result.message = "another cleanup of this table is under way";
  Hook the_hook = hook();
  for (int i = 1; i <= 3; ++i) {
    alert_until(the_hook, i);
    for (int j = 0; j < 500 && journal.count("cleanup put off: another") < 2 * i; ++j)
      std::this_thread::sleep_for(10ms);
    LONGS_EQUAL(i / 3, journal.count("WARNING"));
    hours += 1;
  }
  LONGS_EQUAL(2, journal.count("OKAY site: cleanup put off: another cleanup of this table is under "
                               "way"));
  STRCMP_CONTAINS("total_operations-cleanup=0 total_operations-cleanup_failed=0",
                  samples_of(the_hook).c_str());
  LONGS_EQUAL(0, journal.count("didn't end that"));
}

TEST(Hook, tells_that_a_cleanup_is_running) {
  go_on = false;
  Hook the_hook = hook();
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  journal.await("one line");
  STRCMP_CONTAINS("bool-cleaning=1000", samples_of(the_hook).c_str());
  go_on = true;
  await_ended(the_hook);
  STRCMP_CONTAINS("bool-cleaning=0", samples_of(the_hook).c_str());
}

TEST(Hook, waits_for_its_turn_and_comes_first_who_came_first) {
  const auto turns = std::make_shared<CleanupTurns>();
  go_on = false;
  Hook first = hook("a", turns), second = hook("b", turns), third = hook("c", turns);
  const auto alert = [](Hook& one, const char* instance) {
    one.on_value({"here", instance, "bytes", "reclaimable", true, true}, kTooMuch);
  };
  alert(first, "a");
  CHECK_TRUE(!journal.await("log a: cleanup: one line").empty());
  alert(second, "b");
  CHECK_TRUE(!journal.await("log b: cleanup waits for its turn (MaxCleanups 1): recl").empty());
  alert(third, "c");
  CHECK_TRUE(!journal.await("log c: cleanup waits for its turn").empty());
  LONGS_EQUAL(1, runs);
  STRCMP_CONTAINS("bool-cleaning=0", samples_of(second).c_str());
  go_on = true;
  CHECK_TRUE(!journal.await("OKAY c: cleanup ended").empty());
  const auto lines = journal.lines();
  const auto place = [&lines](const char* line) {
    return std::find(lines.begin(), lines.end(), line) - lines.begin();
  };
  CHECK_TRUE(place("log b: cleanup: one line") < place("log c: cleanup: one line"));
}

TEST(Hook, ends_at_once_while_it_waits_for_its_turn) {
  const auto turns = std::make_shared<CleanupTurns>();
  go_on = false;
  Hook first = hook("a", turns), second = hook("b", turns);
  first.on_value({"here", "a", "bytes", "reclaimable", true, true}, kTooMuch);
  journal.await("log a: cleanup: one line");
  second.on_value({"here", "b", "bytes", "reclaimable", true, true}, kTooMuch);
  journal.await("log b: cleanup waits");
  const auto asked = std::chrono::steady_clock::now();
  second.request_stop();
  second.join();
  CHECK_TRUE(std::chrono::steady_clock::now() - asked < 1s);
  first.request_stop();
  first.join();
  LONGS_EQUAL(1, runs);
}

TEST(Hook, does_not_start_when_its_turn_comes_too_late) {
  const auto turns = std::make_shared<CleanupTurns>();
  go_on = false;
  Hook first = hook("a", turns), second = hook("b", turns);
  first.on_value({"here", "a", "bytes", "reclaimable", true, true}, kTooMuch);
  journal.await("log a: cleanup: one line");
  second.on_value({"here", "b", "bytes", "reclaimable", true, true}, kTooMuch);
  journal.await("log b: cleanup waits");
  second.on_value({"here", "b", "bytes", "reclaimable", true, true}, 0);
  go_on = true;
  await_ended(first);
  second.request_stop();
  second.join();
  LONGS_EQUAL(1, runs);
}

namespace {

/// Of a test, gone after it.
class Folder {
 public:
  Folder() { CHECK_TRUE(mkdtemp(path_.data()) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }

 private:
  std::string path_ = "/tmp/hook_test.XXXXXX";
};

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST(Hook, waits_on_after_a_restart) {
  const Folder folder;
  for (int restart = 0; restart < 3; ++restart) {
    Hook the_hook = hook();
    the_hook.recall(folder.path());
    for (int i = 0; i < 5; ++i) the_hook.on_value(reclaimable_of("here", true), kTooMuch);
    if (restart == 0) await_ended(the_hook);
    the_hook.request_stop();
    the_hook.join();
  }
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(3, journal.count("the last cleanup didn't end that") + 1);
}

TEST(Hook, keeps_a_cleanup_that_the_daemon_did_not_survive) {
  const Folder folder;
  go_on = false;
  Hook killed = hook();
  killed.recall(folder.path());
  killed.on_value(reclaimable_of("here", true), kTooMuch);
  journal.await("one line");
  Hook next = hook();
  next.recall(folder.path());
  next.on_value(reclaimable_of("here", true), kTooMuch);
  STRCMP_CONTAINS("the next may start in 2 h", journal.await("didn't end that").c_str());
  killed.request_stop();
  killed.join();
}

TEST(Hook, waits_a_cooldown_and_says_so_once_where_its_past_is_damaged) {
  const Folder folder;
  const std::string path = folder.path() + "/" + past_file_name("site");
  for (const char* text : {"", "nonsense", "django_session cleanups 1\nuseless 0\n"}) {
    write_file(path, text);
    Hook the_hook = hook();
    the_hook.recall(folder.path());
    for (int i = 0; i < 3; ++i) the_hook.on_value(reclaimable_of("here", true), kTooMuch);
    LONGS_EQUAL(0, runs);
  }
  LONGS_EQUAL(3, journal.count("it is damaged"));
  STRCMP_CONTAINS((path + ": it is damaged").c_str(), journal.await("damaged").c_str());
}

TEST(Hook, goes_on_where_its_past_cannot_be_kept) {
  Hook the_hook = hook();
  the_hook.recall("/nonexistent");
  the_hook.on_value(reclaimable_of("here", true), kTooMuch);
  await_ended(the_hook);
  LONGS_EQUAL(1, journal.count("when the last cleanup was won't be known after a restart"));
}
