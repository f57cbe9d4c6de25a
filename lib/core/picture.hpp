// A measurement in a few words, as the check's first line and the plugin's log have it.
#pragma once

#include <string>
#include <string_view>

#include "core/measurement.hpp"

namespace django_session {

/// "12.5 GB", "~97%", "at least 8192 bytes", "unknown".
std::string show(const MetricValue& value, Unit unit);

/// Without its schema, if that is `public`.
std::string short_name(const SessionTable& table);

/// "django_session 12.9 GB"; `name`: the table's, as it is to be shown.
std::string size_in_words(std::string_view name, const Measurement& measurement,
                          const MetricValues& values);

/// "~97% of 4.1M sessions expired", "no sessions", "sessions unknown".
std::string sessions_in_words(const Measurement& measurement, const MetricValues& values);

}  // namespace django_session
