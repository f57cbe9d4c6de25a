// The first line, which ends up in a text message at 3 a.m.: state, what decided it, the picture.
#pragma once

#include <string>

#include "core/measurement.hpp"
#include "core/threshold.hpp"

namespace django_session::nagios {

/// At most kLongestFirstLine characters, without perfdata: what matters least is left out first.
std::string first_line(const Measurement& measurement, const MetricValues& values,
                       const Judgement& judgement);

}  // namespace django_session::nagios
