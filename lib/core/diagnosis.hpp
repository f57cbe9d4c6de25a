// What to do about a session table: from what was measured to the exact commands to run next.
#pragma once

#include <string>
#include <vector>

#include "core/measurement.hpp"

namespace django_session {

struct Advice {
  std::string finding;  ///< what was found, and what the command does to the site
  std::string command;  ///< SQL or a shell command, ready to be pasted; empty where waiting is all
                        ///< there is to do
};

/// In the order in which it should be followed; empty for a healthy table. Only what is worth a
/// person's time is mentioned.
std::vector<Advice> diagnose(const Measurement& measurement, const Findings& findings);

}  // namespace django_session
