// Thresholds as after -w, -c and Trigger: `[METRIC=]RANGE`.
#include "core/range.hpp"

#include "core/config_error.hpp"
#include "core/threshold.hpp"
#include "demand.hpp"

using namespace django_session;

namespace {

/// What is accepted is a range, and what perfdata makes of it is one that is written the same.
void check_range(const Range& range, Unit unit) {
  fuzz::demand(range.start <= range.end, "a range", "start before end");
  fuzz::demand(range.alerts(range.start) == range.alert_inside, "its start is in it", "start");
  const std::string written = perfdata_range(range, unit);
  fuzz::demand(perfdata_range(parse_range(written, unit), unit) == written, "the same again",
               written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  try {
    const Threshold threshold = parse_threshold(fuzz::text_of(data, size), State::warning);
    check_range(threshold.range, info(threshold.metric).unit);
  } catch (const ConfigError& refused) {
    fuzz::demand_a_line(refused.what());
  }
  return 0;
}
