// Two clocks side by side, and what the server remembers of the time before.
#include "cleanup/clock.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cleanup/patience.hpp"
#include "core/quantity.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

constexpr const char* kServerTime = R"(
SELECT extract(epoch FROM clock_timestamp()) AS now,
  extract(epoch FROM pg_postmaster_start_time()) AS started;
)";

// A statement of its own, since the right to it can be revoked.
constexpr const char* kLastCheckpoint =
    "SELECT extract(epoch FROM checkpoint_time) AS at FROM pg_control_checkpoint();";

// {0} the table. The newest one that isn't infinite; 0 without any.
constexpr const char* kNewest = R"(
SELECT extract(epoch FROM clock_timestamp()) AS now,
  greatest(extract(epoch FROM max(s.expire_date)::timestamptz), 0) AS newest
FROM ONLY {0} s WHERE s.expire_date < 'infinity'::timestamptz)";

double seconds(milliseconds time) { return static_cast<double>(time.count()) / 1000; }

double our_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string utc(double epoch) {
  constexpr double kYear9999 = 253402300799;
  const auto whole = static_cast<std::time_t>(std::clamp(epoch, 0.0, kYear9999));
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", fmt::gmtime(whole));
}

std::string duration(double length) { return format_quantity(length, Unit::seconds); }

/// How far the server is ahead of us (negative: behind), as far as the time in which it answered
/// doesn't explain it.
double skew(double before, double server, double after) {
  if (server > after) return server - after;
  return server < before ? server - before : 0;
}

std::optional<double> last_checkpoint(Run& run) try {
  return run.ask(kLastCheckpoint).front().number("at");
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
  return std::nullopt;
}

std::string limit_text(double most) {
  return fmt::format("; more than {} is not trusted (--max-clock-skew)", duration(most));
}

}  // namespace

std::optional<std::string> doubt_about_the_clock(Run& run) {
  const double most = seconds(run.options().max_clock_skew), before = our_time();
  const pg::Row row = run.ask(kServerTime).front();
  const double after = our_time(), server = row.number("now").value();
  const double ahead = skew(before, server, after);
  if (std::abs(ahead) > most)
    return fmt::format("is {} {} this machine's ({} there, {} here){}", duration(std::abs(ahead)),
                       ahead > 0 ? "ahead of" : "behind", utc(server), utc(after),
                       limit_text(most));
  const double started = row.number("started").value_or(0);
  if (started > server + most)
    return fmt::format("says {}, but the server was started at {}{}", utc(server), utc(started),
                       limit_text(most));
  const auto checkpoint = last_checkpoint(run);
  if (checkpoint && *checkpoint > server + most)
    return fmt::format("says {}, but the server's last checkpoint was at {}{}", utc(server),
                       utc(*checkpoint), limit_text(most));
  return std::nullopt;
}

std::optional<std::string> doubt_by_new_sessions(Run& run, ReadingAs who) {
  const std::string query = fmt::format(kNewest, run.target().sql_name);
  const double most = seconds(run.options().max_clock_skew);
  const auto end = pg::Deadline::after(patience::kWatchesNewSessions);
  std::optional<double> first;
  for (;;) {
    const auto row = ask_sessions(run, who, {{"now", "newest"}, query}, end);
    if (!row) return std::nullopt;
    const double now = *row->number("now"), newest = *row->number("newest");
    if (now - newest <= most || newest == 0) return std::nullopt;
    if (newest > first.value_or(newest))
      return fmt::format(
          "says {}, but by that time sessions that are being saved right now expired {} ago{}",
          utc(now), duration(now - newest), limit_text(most));
    first = newest;
    if (end.passed()) return std::nullopt;
    run.rest(patience::kBetweenSessionLooks);
  }
}

}  // namespace django_session::sessions
