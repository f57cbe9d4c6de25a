// The sections of the manual page django_session(7): one for each thing that an alert can be about.
#pragma once

#include <string>
#include <string_view>

#include "core/metric.hpp"

namespace django_session {

/// In the order of the page.
enum class RunbookSection {
  expired,
  free_space,
  dead_rows,
  index_bloat,
  overdue,
  large,
  locked,
  interrupted_swap,
  invalid_index,
  missing_index,
  missing_right,
  no_statistics,
  counters,
  hidden_space,
  standby,
  unknown_value,
  password,
  peer,
  no_entry,
  no_role,
  no_connect_right,
  no_database,
  no_connection_left,
  starting,
  no_answer,
  tls,
  kind_of_server,
  no_service,
  no_host,
  other_login,
  timed_out,
  no_table,
  options,
  other_error,
};

/// As the page spells it: "Dead rows".
std::string_view title(RunbookSection section);

/// Where a threshold on this metric has alerted, and nothing else is found.
RunbookSection runbook_section(Metric metric);

/// A line for people: `Runbook: man 7 django_session, section "Dead rows"`.
std::string runbook_line(RunbookSection section);

}  // namespace django_session
