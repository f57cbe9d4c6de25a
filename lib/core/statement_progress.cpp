// One row for each phase of the views: which part of the statement it is.
#include "core/statement_progress.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace django_session {
namespace {

enum class GoesBy { read, made, both, nothing };

struct StatementPhase {
  std::string_view name;  ///< as in the view
  double begin, end;
  GoesBy goes_by;
};

// An index built concurrently is then compared with the table.
constexpr double kBuilt = 0.6;
// VACUUM reads, and vacuums what it has read, in turns if its memory doesn't hold it all.
constexpr std::array<StatementPhase, 22> kStatementPhases = {{
    {"scanning heap", 0, 1, GoesBy::both},
    {"vacuuming indexes", 0, 1, GoesBy::both},
    {"vacuuming heap", 0, 1, GoesBy::both},
    {"cleaning up indexes", 1, 1, GoesBy::nothing},
    {"truncating heap", 1, 1, GoesBy::nothing},
    {"performing final cleanup", 1, 1, GoesBy::nothing},

    {"building index: scanning table", 0, 0.4, GoesBy::read},
    {"building index: sorting live tuples", 0.4, 0.4, GoesBy::nothing},
    {"building index: sorting dead tuples", 0.4, 0.4, GoesBy::nothing},
    {"building index: loading tuples in tree", 0.4, 1, GoesBy::made},
    {"waiting for writers before validation", kBuilt, kBuilt, GoesBy::nothing},
    {"index validation: scanning index", kBuilt, 0.7, GoesBy::read},
    {"index validation: sorting tuples", 0.7, 0.7, GoesBy::nothing},
    {"index validation: scanning table", 0.7, 1, GoesBy::read},
    {"waiting for old snapshots", 1, 1, GoesBy::nothing},
    {"waiting for readers before marking dead", 1, 1, GoesBy::nothing},
    {"waiting for readers before dropping", 1, 1, GoesBy::nothing},

    {"seq scanning heap", 0, 0.5, GoesBy::read},
    {"sorting tuples", 0.5, 0.5, GoesBy::nothing},
    {"writing new heap", 0.5, 0.5, GoesBy::nothing},
    {"swapping relation files", 0.5, 0.5, GoesBy::nothing},
    {"rebuilding index", 0.5, 1, GoesBy::made},
}};

double advance(const StatementProgress& progress, GoesBy goes_by) {
  const double read = progress.read.value_or(0), made = progress.made.value_or(0);
  switch (goes_by) {
    case GoesBy::read:
      return read;
    case GoesBy::made:
      return made;
    case GoesBy::both:
      return (read + made) / 2;
    case GoesBy::nothing:
      break;
  }
  return 0;
}

}  // namespace

std::optional<double> share_of_statement(const StatementProgress& progress) {
  const auto* phase =
      std::find_if(kStatementPhases.begin(), kStatementPhases.end(),
                   [&](const StatementPhase& known) { return known.name == progress.phase; });
  if (phase == kStatementPhases.end()) return std::nullopt;
  // NaN counts as 0.
  const double done = std::min(std::max(0.0, advance(progress, phase->goes_by)), 1.0);
  const double share = phase->begin + (phase->end - phase->begin) * done;
  const bool builds = phase->name.starts_with("building index");
  return builds && progress.concurrently ? kBuilt * share : share;
}

}  // namespace django_session
