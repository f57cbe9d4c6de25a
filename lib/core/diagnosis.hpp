// What to do about a session table: from what was measured to the exact commands to run next.
#pragma once

#include <string>
#include <vector>

#include "core/measurement.hpp"
#include "core/route.hpp"
#include "core/runbook.hpp"

namespace django_session {

struct Advice {
  enum class Place {
    next,     ///< to be done, in this order
    instead,  ///< another way to the same, worse in most cases
    then,     ///< what keeps it from coming back
  };
  std::string finding;  ///< what was found, and what the command does to the site
  std::string command;  ///< complete, for a shell; empty where waiting is all there is to do
  Place place = Place::next;
  RunbookSection section = RunbookSection::other_error;  ///< of the manual page, with more of it
};

/// In the order in which it should be read; empty for a healthy table. Only what is worth a
/// person's time is mentioned. `route` is how a person who may change the table reaches it; `alerting`
/// are the metrics past their thresholds. `reading`: how to read its rows with no more rights than
/// the check has, since the owner may have put a view in its place by then; without a user, not.
std::vector<Advice> diagnose(const Measurement& measurement, const Findings& findings,
                             const Route& route, const std::vector<Metric>& alerting = {},
                             const Route& reading = {});

}  // namespace django_session
