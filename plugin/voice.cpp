// Speaking, and being cut off.
#include "plugin/voice.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "core/printable.hpp"
#include "core/quantity.hpp"

namespace django_session::plugin {
namespace {

constexpr std::size_t kLongestNotification = 255;  // bytes; collectd's limit
// For what a thread is saying in the moment in which it is let go.
constexpr std::chrono::milliseconds kLastWord(100);
// A plugin that takes a notification for longer hangs.
constexpr std::chrono::seconds kLongestTelling(60);

std::string shortened(std::string text) {
  if (text.size() <= kLongestNotification) return text;
  constexpr std::string_view kEllipsis = "...";
  return std::string(cut_to_bytes(text, kLongestNotification - kEllipsis.size())).append(kEllipsis);
}

}  // namespace

/// The time in which the cleanup's thread speaks.
class Voice::Speaking {
 public:
  explicit Speaking(Voice& voice) : voice_(voice) { set(true); }
  ~Speaking() { set(false); }
  Speaking(const Speaking&) = delete;
  Speaking& operator=(const Speaking&) = delete;

 private:
  void set(bool speaking) {
    const Lock lock(voice_.mutex_);
    voice_.speaking_ = speaking;
    voice_.silence_.notify_all();
  }
  Voice& voice_;
};

void Voice::say(LogLevel level, const std::string& text) const {
  if (!is_silent_) output_.log(level, fmt::format("{}: {}", instance_, text));
}

void Voice::report(LogLevel level, const std::string& text) {
  const Speaking under_way(*this);
  say(level, text);
}

void Voice::report(const std::exception& error) const {
  if (!is_silent_) output_.log(LogLevel::error, error.what());
}

void Voice::tell(Severity severity, LogLevel level, const std::string& text,
                 const StopSignal& stop) {
  const Speaking under_way(*this);
  say(level, text);
  if (!is_silent_ && !stop.requested())
    notify(severity, shortened(fmt::format("{}: {}", instance_, text)));
}

void Voice::notify(Severity severity, const std::string& text) {
  set_notifying_since(output_.now().time);
  try {
    output_.notify(severity, text);
  } catch (...) {
    set_notifying_since(std::nullopt);
    throw;
  }
  set_notifying_since(std::nullopt);
}

void Voice::set_notifying_since(std::optional<Time> since) {
  const Lock lock(mutex_);
  notifying_since_ = since;
  hang_is_known_ = false;
}

void Voice::note_hanging_notification(Moment now) {
  {
    const Lock lock(mutex_);
    if (!notifying_since_ || now.time - *notifying_since_ < kLongestTelling) return;
    if (std::exchange(hang_is_known_, true)) return;
  }
  const double seconds = std::chrono::duration<double>(kLongestTelling).count();
  say(LogLevel::error, fmt::format("cleanups are stalled: one of collectd's plugins has been busy "
                                   "with a notification for over {}",
                                   format_quantity(seconds, Unit::seconds)));
}

void Voice::fall_silent() {
  is_silent_ = true;
  const Lock lock(mutex_);
  const Time enough = std::chrono::steady_clock::now() + kLastWord;
  while (speaking_ && silence_.wait_until(mutex_, enough)) continue;
}

}  // namespace django_session::plugin
