// What the tests of the write hook begin with. To be included last.
#pragma once

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "plugin/hook.hpp"

#include <CppUTest/TestHarness.h>

namespace django_session::plugin {

using namespace std::chrono_literals;

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

inline std::string severity_name(Severity severity) {
  return severity == Severity::okay      ? "OKAY"
         : severity == Severity::warning ? "WARNING"
                                         : "FAILURE";
}

inline ValueName reclaimable_of(std::string_view host, bool measured_here = false) {
  return {host, "site", "bytes", "reclaimable", measured_here, host == "here"};
}

/// A hook for `reclaimable=1GB`, a cleanup that ends when `go_on` is set, and a clock.
struct HookFixture : Utest {
  DatabaseSettings settings;
  Journal journal;
  std::atomic<int> runs = 0;
  std::atomic<bool> go_on = false;
  std::atomic<long> hours = 1000;
  CleanupResult result;
  CleanupRun run;
  std::future<void> all_have_ended;
  std::shared_ptr<void> in_use;

  void setup() override {
    const auto ended = std::make_shared<std::promise<void>>();
    all_have_ended = ended->get_future();
    in_use.reset(this, [ended](void*) { ended->set_value(); });
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

  /// A thread may still tell of its end when the test is over, and tells it to this journal.
  void teardown() override {
    in_use.reset();
    CHECK(all_have_ended.wait_for(10s) == std::future_status::ready);
  }

  HookOutput output() {
    return {
        [this, held = in_use](LogLevel, const std::string& line) { journal.add("log " + line); },
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
  void alert_until(Hook& hook, int cleanups) const {
    for (int i = 0; i < 500 && runs < cleanups; ++i) {
      alert(hook);
      std::this_thread::sleep_for(10ms);
    }
  }

  Hook hook() { return Hook(settings, "site", output(), run); }

  /// A value of this daemon's own that is too much.
  static void alert(Hook& hook, const char* instance = "site") {
    hook.on_value({"here", instance, "bytes", "reclaimable", true, true}, kTooMuch);
  }

  std::string samples_of(const Hook& hook) {
    std::string text;
    for (const Sample& sample : hook.samples())
      text += std::string(sample.type) + "-" + sample.type_instance + "=" +
              std::to_string(static_cast<long>(sample.value * 1000)) + " ";
    return text;
  }
};

}  // namespace django_session::plugin
