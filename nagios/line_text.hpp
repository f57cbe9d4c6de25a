// Text as Nagios takes it: no '|' outside perfdata, no control characters, a first line that fits.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace django_session::nagios {

inline constexpr std::size_t kLongestFirstLine = 119;  ///< characters, without perfdata

/// '|' would begin the perfdata, and a newline another line: they become '/' and '?'.
std::string plain_line(std::string_view text);

/// UTF-8 characters.
std::size_t character_count(std::string_view text);

/// At most `limit` characters; what was cut off is shown as "...".
std::string shorten(std::string_view text, std::size_t limit);

}  // namespace django_session::nagios
