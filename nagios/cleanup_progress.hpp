// How a running cleanup is shown on the error output: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "core/cleanup.hpp"
#include "core/work_progress.hpp"

namespace django_session::nagios {

/// What is shown beside a progress.
struct ProgressClock {
  std::chrono::milliseconds elapsed;   ///< since the phase began
  std::optional<double> seconds_left;  ///< of the whole work
};

/// "deleting: 1.2M of 2.9M sessions (42%), 450 MB, 24k/s; in all 34%, about 2 min left", as far as it
/// is known. With a bar of `bar_width` characters, which shows the whole, that comes first.
std::string progress_text(const CleanupProgress& progress, const ProgressClock& clock,
                          std::size_t bar_width);

/// Shows a cleanup's progress and notes, and passes on the wish to stop.
class ProgressDisplay : public CleanupObserver {
 public:
  enum class Style { bar, lines, none };

  /// Writes to `stream`, which outlives it; `stop` is asked for stop_requested().
  ProgressDisplay(std::FILE* stream, Style style, std::function<bool()> stop);
  ~ProgressDisplay() override;
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  bool stop_requested()
      override;  ///< also the moment at which a waiting cleanup's clock is redrawn
  void on_progress(const CleanupProgress& progress) override;
  void on_note(const std::string& line) override;

 private:
  using Clock = std::chrono::steady_clock;

  void show_if_due();
  std::string text(std::size_t bar_width) const;
  void draw_bar();
  void erase_bar();
  void print(const std::string& text);

  std::FILE* stream_;
  Style style_;
  std::function<bool()> stop_;
  CleanupProgress progress_;
  Clock::time_point phase_began_{}, shown_{};
  TimeLeft time_left_;
  bool bar_is_there_ = false;
};

/// The style that fits a stream: a bar on a terminal that can redraw a line.
ProgressDisplay::Style style_for(std::FILE* stream);

}  // namespace django_session::nagios
