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

/// Rounded down: 100% is said of what is at its end.
std::string percent(double share) { return fmt::format("{:.0f}%", std::floor(100 * share)); }

std::string bar(double share, std::size_t width) {
  const auto done = static_cast<std::size_t>(std::floor(share * static_cast<double>(width)));
  return "[" + std::string(done, '#') + std::string(width - done, '.') + "] ";
}

/// "1.2M of 2.9M sessions (42%)"
std::string rows_text(const CleanupProgress& progress) {
  const std::string rows = format_quantity(progress.rows, Unit::rows);
  if (progress.rows_total <= 0) return rows + " sessions";
  return fmt::format("{} of {} sessions ({})", rows,
                     format_quantity(progress.rows_total, Unit::rows),
                     percent(share_of_phase(progress).value_or(0)));
}

/// Without sessions that are counted: the time, once it is worth it, and what the server tells.
std::string uncounted_text(const CleanupProgress& progress, double seconds) {
  std::string text = progress.phase;
  if (progress.parts > 1) text += fmt::format(" ({} of {})", progress.part, progress.parts);
  if (progress.share) text += ": " + percent(*progress.share);
  if (seconds >= 1) text += ", " + format_quantity(std::floor(seconds), Unit::seconds);
  return text;
}

std::string counted_text(const CleanupProgress& progress, double seconds) {
  std::string text = fmt::format("{}: {}", progress.phase, rows_text(progress));
  if (progress.bytes > 0) text += ", " + format_quantity(std::round(progress.bytes), Unit::bytes);
  if (seconds < 1 || progress.rows <= 0) return text;
  const double rate = std::round(progress.rows / seconds);
  return text + fmt::format(", {}/s", format_quantity(rate, Unit::rows));
}

/// "34%, about 2 min left": of the whole, which isn't at its end as long as this is shown.
std::string whole_text(double done, std::optional<double> seconds_left) {
  const std::string share = percent(std::min(done, 0.99));
  return seconds_left ? share + ", " + time_left_text(*seconds_left) : share;
}

double seconds_of(std::chrono::steady_clock::time_point moment) {
  return std::chrono::duration<double>(moment.time_since_epoch()).count();
}

std::size_t width_of_terminal(std::FILE* stream) {
  winsize size{};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                          : kUsualWidth;
}

}  // namespace

std::string progress_text(const CleanupProgress& progress, const ProgressClock& clock,
                          std::size_t bar_width) {
  const double seconds = std::chrono::duration<double>(clock.elapsed).count();
  const bool counts = progress.rows > 0 || progress.rows_total > 0;
  const std::string phase =
      counts ? counted_text(progress, seconds) : uncounted_text(progress, seconds);
  if (!progress.done) return phase;
  const std::string whole = whole_text(*progress.done, clock.seconds_left);
  if (bar_width == 0) return phase + "; in all " + whole;
  return bar(*progress.done, bar_width) + whole + " - " + phase;
}

ProgressDisplay::ProgressDisplay(std::FILE* stream, Style style, std::function<bool()> stop)
    : stream_(stream), style_(style), stop_(std::move(stop)) {}

ProgressDisplay::~ProgressDisplay() { erase_bar(); }

bool ProgressDisplay::stop_requested() {
  if (!progress_.phase.empty()) show_if_due();
  return stop_();
}

void ProgressDisplay::on_progress(const CleanupProgress& progress) {
  const bool goes_on = progress.phase == progress_.phase && progress.part == progress_.part;
  const bool has_first_figure = progress.share && !progress_.share;
  progress_ = progress;
  if (!goes_on) phase_began_ = Clock::now();
  if (!goes_on || has_first_figure) shown_ = {};
  if (progress.done && share_of_phase(progress))
    time_left_.reached(*progress.done, seconds_of(Clock::now()));
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
  print(text(0) + "\n");
}

/// What no figure is known of may take any time.
std::string ProgressDisplay::text(std::size_t bar_width) const {
  const auto now = Clock::now();
  ProgressClock clock{std::chrono::duration_cast<milliseconds>(now - phase_began_), std::nullopt};
  if (share_of_phase(progress_)) clock.seconds_left = time_left_.seconds(seconds_of(now));
  return without_controls(progress_text(progress_, clock, bar_width), '?');
}

void ProgressDisplay::draw_bar() {
  const std::string line = text(kBarWidth);
  erase_bar();
  print(shorten(line, width_of_terminal(stream_) - 1));
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
