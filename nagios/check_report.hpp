// Everything that check_django_session prints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/measurement.hpp"
#include "core/route.hpp"
#include "core/threshold.hpp"

namespace django_session::nagios {

struct Report {
  const Measurement& measurement;
  const Findings& findings;
  const std::vector<Threshold>& thresholds;
  const Judgement& judgement;
  int verbosity = 0;
  std::vector<TableSize> largest_tables{};    ///< empty where not asked for or not known
  std::string server;                         ///< where we connected to, without secrets
  Route route;                                ///< for the commands that are printed
  Route reading{};                            ///< for those that read the table's rows
  std::vector<std::string> session_tables{};  ///< of the database, each a table_word()
};

/// By the thresholds, and by what is wrong whatever they are.
Judgement judge_table(const Measurement& measurement, const Findings& findings,
                      const std::vector<Threshold>& thresholds);

/// Further lines are shown with -v, and whenever someone has to act.
bool wants_more_lines(State state, int verbosity);

/// The first line with perfdata, and further lines where wanted; each ends in a newline.
std::string write_report(const Report& report);

/// One more line for text from elsewhere, in the shape that Nagios takes.
std::string further_line(std::string_view text);

/// There is nothing to measure, and why. A message too long for the first line follows in full.
std::string write_failure(State state, std::string_view message);

}  // namespace django_session::nagios
