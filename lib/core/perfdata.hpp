// Nagios performance data: 'label'=value[UOM];[warn];[crit];[min];[max]
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/metric.hpp"
#include "core/threshold.hpp"

namespace django_session {

/// All known metrics in the vocabulary's order, blank-separated; unknown ones are left out.
/// warn and crit are those thresholds on the metric, in its base unit, that decided, else the
/// first ones; min is 0, max is 100 for percentages. C locale.
std::string perfdata(const MetricValues& values, const std::vector<Threshold>& thresholds);

/// One entry for values outside the vocabulary. The label is quoted where Nagios' rules want it
/// (blanks, quotes, '=', ';'); '|' and control characters in it become '_'. warn and crit are what
/// perfdata_range wrote; anything else in them is left out. Empty fields at the end aren't written.
std::string perfdata_entry(std::string_view label, double value, Unit unit,
                           std::string_view warn = "", std::string_view crit = "");

}  // namespace django_session
