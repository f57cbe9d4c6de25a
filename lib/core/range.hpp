// Nagios ranges: `[@][start:]end`, with quantities at both ends.
#pragma once

#include <limits>
#include <string>
#include <string_view>

#include "core/metric.hpp"

namespace django_session {

/// Values from `start` to `end`, both inclusive, are fine; with `alert_inside` it is the other way
/// round.
struct Range {
  double start = 0;
  double end = std::numeric_limits<double>::infinity();
  bool alert_inside = false;

  bool alerts(double value) const {
    const bool inside = start <= value && value <= end;
    return inside == alert_inside;
  }
};

/// Reads a whole range of quantities of one unit ("1GB:5GB", "@10:20", "~:0", "10:", "5GB").
/// Throws ConfigError with the text, the place and an example for anything else ("1-10", ":", "",
/// "foo", "10:5").
Range parse_range(std::string_view text, Unit unit);

/// As perfdata writes it: plain numbers in base units, without unit, `0:x` written `x`.
std::string perfdata_range(const Range& range, Unit unit);

}  // namespace django_session
