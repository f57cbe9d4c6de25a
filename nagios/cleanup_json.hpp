// What django_session_cleanup prints with --json: one object on one line, for programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"
#include "core/cleanup_outline.hpp"

namespace django_session::nagios {

/// What there is to tell of a run or of --abort once it has ended.
struct EndedRun {
  CleanupResult result;
  std::vector<std::string> notes;  ///< said meanwhile
  std::optional<DryRun> plan;      ///< with -v
};

// Each is one line of ASCII, with its newline. Bytes and rows are whole numbers, durations are
// seconds, and what isn't known is null.

std::string plan_as_json(const std::string& table, const DryRun& dry_run);
std::string run_as_json(const std::string& table, const EndedRun& run);
/// Of what ended before there was a plan or a result.
std::string ending_as_json(Outcome outcome, const std::string& message);

}  // namespace django_session::nagios
