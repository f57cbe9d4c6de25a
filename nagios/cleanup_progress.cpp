// Text of one progress line, and when it is shown.
#include "cleanup_progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "core/metric.hpp"
#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "core/sql_name.hpp"
#include "line_text.hpp"

namespace django_session::nagios {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBetweenBars{200}, kBetweenLines{10'000};
constexpr std::size_t kUsualWidth = 80, kBarWidth = 20;

double share_of(const CleanupProgress& progress) {
  return std::clamp(progress.rows / progress.rows_total, 0.0, 1.0);
}

std::string bar(double share, std::size_t width) {
  const auto done = static_cast<std::size_t>(std::floor(share * static_cast<double>(width)));
  return "[" + std::string(done, '#') + std::string(width - done, '.') + "] ";
}

/// "1.2M of 2.9M sessions (42%)"
std::string rows_text(const CleanupProgress& progress) {
  const std::string rows = format_quantity(progress.rows, Unit::rows);
  if (progress.rows_total <= 0) return rows + " sessions";
  return fmt::format("{} of {} sessions ({:.0f}%)", rows,
                     format_quantity(progress.rows_total, Unit::rows),
                     std::floor(100 * share_of(progress)));
}

/// Without figures only the time is shown, once it is worth it.
std::string phase_text(const std::string& phase, double seconds) {
  if (seconds < 1) return phase;
  return phase + ", " + format_quantity(std::floor(seconds), Unit::seconds);
}

/// Rate and time left are known once there is something to go by.
std::string pace_text(const CleanupProgress& progress, double seconds) {
  if (seconds < 1 || progress.rows <= 0) return "";
  const double rate = progress.rows / seconds;
  std::string text = fmt::format(", {}/s", format_quantity(std::round(rate), Unit::rows));
  if (progress.rows_total > progress.rows)
    text += fmt::format(
        ", {} left",
        format_quantity(std::ceil((progress.rows_total - progress.rows) / rate), Unit::seconds));
  return text;
}

std::size_t width_of_terminal(std::FILE* stream) {
  winsize size{};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                          : kUsualWidth;
}

}  // namespace

std::string progress_text(const CleanupProgress& progress, milliseconds elapsed,
                          std::size_t bar_width) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (progress.rows <= 0 && progress.rows_total <= 0) return phase_text(progress.phase, seconds);
  std::string text =
      bar_width > 0 && progress.rows_total > 0 ? bar(share_of(progress), bar_width) : "";
  text += fmt::format("{}: {}", progress.phase, rows_text(progress));
  if (progress.bytes > 0) text += ", " + format_quantity(std::round(progress.bytes), Unit::bytes);
  return text + pace_text(progress, seconds);
}

ProgressDisplay::ProgressDisplay(std::FILE* stream, Style style, std::function<bool()> stop)
    : stream_(stream), style_(style), stop_(std::move(stop)) {}

ProgressDisplay::~ProgressDisplay() { erase_bar(); }

bool ProgressDisplay::stop_requested() {
  if (!progress_.phase.empty()) show_if_due();
  return stop_();
}

void ProgressDisplay::on_progress(const CleanupProgress& progress) {
  const bool new_phase = progress.phase != progress_.phase;
  progress_ = progress;
  if (new_phase) {
    phase_began_ = Clock::now();
    shown_ = {};
  }
  show_if_due();
}

void ProgressDisplay::on_note(const std::string& line) {
  erase_bar();
  print(without_controls(with_printable_names(line), '?') + "\n");
}

void ProgressDisplay::show_if_due() {
  const auto now = Clock::now();
  if (style_ == Style::none || now - shown_ < (style_ == Style::bar ? kBetweenBars : kBetweenLines))
    return;
  shown_ = now;
  if (style_ == Style::bar) return draw_bar();
  const auto elapsed = std::chrono::duration_cast<milliseconds>(now - phase_began_);
  print(without_controls(progress_text(progress_, elapsed, 0), '?') + "\n");
}

void ProgressDisplay::draw_bar() {
  const auto elapsed = std::chrono::duration_cast<milliseconds>(Clock::now() - phase_began_);
  const std::string text = without_controls(progress_text(progress_, elapsed, kBarWidth), '?');
  erase_bar();
  print(shorten(text, width_of_terminal(stream_) - 1));
  bar_is_there_ = true;
}

/// Back to the line's start, and clear it (ECMA-48 EL).
void ProgressDisplay::erase_bar() {
  if (bar_is_there_) print("\r\033[K");
  bar_is_there_ = false;
}

void ProgressDisplay::print(const std::string& text) {
  std::fputs(text.c_str(), stream_);
  std::fflush(stream_);
}

ProgressDisplay::Style style_for(std::FILE* stream) {
  const char* terminal = std::getenv("TERM");
  const bool can_redraw = terminal != nullptr && std::string_view(terminal) != "dumb";
  return can_redraw && isatty(fileno(stream)) == 1 ? ProgressDisplay::Style::bar
                                                   : ProgressDisplay::Style::lines;
}

}  // namespace django_session::nagios
