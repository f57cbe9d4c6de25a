// Text from elsewhere (command lines, index names), made fit to be shown on one line.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

/// `text` with each control character (C0, DEL, and UTF-8's C1) replaced.
std::string without_controls(std::string_view text, char replacement);

}  // namespace django_session
