// What a running cleanup shows: the text, and a display on a terminal or elsewhere.
#include "cleanup_progress.hpp"

#include <cstdio>
#include <memory>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using nagios::progress_text;
using nagios::ProgressDisplay;
using std::chrono::milliseconds;

namespace {

constexpr double kMb = 1024 * 1024;

void check_text(const char* expected, const CleanupProgress& progress, int ms,
                std::size_t bar = 0) {
  STRCMP_EQUAL(expected, progress_text(progress, {milliseconds(ms), std::nullopt}, bar).c_str());
}

CleanupProgress with_done(CleanupProgress progress, double done) {
  progress.done = done;
  return progress;
}

/// A file in memory in the place of stderr.
class Captured {
 public:
  std::FILE* stream() { return file_.get(); }
  std::string text() {
    std::string text(1000, '\0');
    std::rewind(file_.get());
    text.resize(std::fread(text.data(), 1, text.size(), file_.get()));
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::tmpfile(), std::fclose};
};

}  // namespace

TEST_GROUP(CleanupProgress){};

TEST(CleanupProgress, tells_what_is_known) {
  check_text("deleting: 1.2M of 3M sessions (40%), 450 MB, 24k/s",
             {"deleting", 1'200'000, 3'000'000, 450 * kMb}, 50'000);
  check_text("deleting: 500 of 290k sessions (0%)", {"deleting", 500, 290'000, 0}, 100);
  check_text("copying: 500 sessions", {"copying", 500, 0, 0}, 100);
  check_text("copying: 500 sessions, 50/s", {"copying", 500, 0, 0}, 10'000);
}

TEST(CleanupProgress, is_never_more_than_whole) {
  check_text("deleting: 300 of 200 sessions (100%), 150/s", {"deleting", 300, 200, 0}, 2000);
}

TEST(CleanupProgress, a_phase_without_figures_shows_its_time) {
  check_text("vacuuming", {"vacuuming", 0, 0, 0}, 900);
  check_text("vacuuming, 45 s", {"vacuuming", 0, 0, 0}, 45'900);
}

TEST(CleanupProgress, what_the_server_tells_has_its_share) {
  CleanupProgress progress{"building indexes"};
  progress.share = 0.404;
  check_text("building indexes: 40%, 12 s", progress, 12'000);
  progress.part = 2;
  progress.parts = 3;
  check_text("building indexes (2 of 3): 40%", progress, 0);
}

TEST(CleanupProgress, the_whole_has_its_share_and_the_time_that_is_left) {
  const CleanupProgress progress = with_done({"deleting", 40, 100, 0}, 0.345);
  STRCMP_EQUAL("deleting: 40 of 100 sessions (40%), 20/s; in all 34%, about 2 min left",
               progress_text(progress, {milliseconds(2000), 115.0}, 0).c_str());
  STRCMP_EQUAL("[###.......] 34%, about 2 min left - deleting: 40 of 100 sessions (40%), 20/s",
               progress_text(progress, {milliseconds(2000), 115.0}, 10).c_str());
  check_text("comparing, 5 s; in all 80%", with_done({"comparing"}, 0.8), 5000);
}

TEST(CleanupProgress, is_not_at_its_end_as_long_as_it_is_shown) {
  check_text("dropping the replaced table; in all 99%",
             with_done({"dropping the replaced table"}, 1), 0);
}

TEST(CleanupProgress, has_a_bar_on_request) {
  check_text("[####......] 40% - vacuuming", with_done({"vacuuming"}, 0.4), 0, 10);
  check_text("[..........] 0% - vacuuming", with_done({"vacuuming"}, 0), 0, 10);
  check_text("[##########] 99% - vacuuming", with_done({"vacuuming"}, 1), 0, 10);
  check_text("copying: 5 sessions", {"copying", 5, 0, 0}, 0, 10);
}

TEST(CleanupProgress, lines_come_at_each_phase_and_not_at_each_batch) {
  Captured captured;
  ProgressDisplay display(captured.stream(), ProgressDisplay::Style::lines, [] { return false; });
  for (int rows = 100; rows < 1000; rows += 100)
    display.on_progress({"deleting", static_cast<double>(rows), 1000, 0});
  display.on_progress({"vacuuming", 0, 0, 0});
  STRCMP_EQUAL("deleting: 100 of 1k sessions (10%)\nvacuuming\n", captured.text().c_str());
}

TEST(CleanupProgress, a_note_stands_on_its_own_line_beside_the_bar) {
  Captured captured;
  {
    ProgressDisplay display(captured.stream(), ProgressDisplay::Style::bar, [] { return false; });
    display.on_progress({"vacuuming", 0, 0, 0});
    display.on_note("a\nnote");
  }
  STRCMP_EQUAL("vacuuming\r\033[Ka?note\n", captured.text().c_str());
}

TEST(CleanupProgress, without_progress_there_are_notes_alone) {
  Captured captured;
  ProgressDisplay display(captured.stream(), ProgressDisplay::Style::none, [] { return true; });
  display.on_progress({"vacuuming", 0, 0, 0});
  display.on_note("note");
  CHECK_TRUE(display.stop_requested());
  STRCMP_EQUAL("note\n", captured.text().c_str());
}

TEST(CleanupProgress, a_file_is_no_terminal) {
  Captured captured;
  CHECK(nagios::style_for(captured.stream()) == ProgressDisplay::Style::lines);
}
