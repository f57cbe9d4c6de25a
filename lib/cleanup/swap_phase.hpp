// How far a swap is, and what comes next: one row for each phase that its state can be in. Pure.
//
// Each change of phase is in the same transaction as what it stands for, so a run that dies
// anywhere is taken up by the next one at the phase it finds.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace django_session::sessions {

/// none: there is no state, and nothing of a swap; unknown: none of ours, others wrote it there.
enum class Phase { none, created, copying, catching_up, ready, exchanged, stopped, unknown };

struct PhaseFacts {
  Phase phase;
  std::string_view name;  ///< as the state's row has it; the next version reads it, too
  std::string_view step;  ///< what a run does that finds the swap here, until it is in `then`
  Phase then;
  bool keeps;    ///< a run that is out of time leaves it to the next one
  bool resumes;  ///< which resumes it; else it is removed
};

inline constexpr std::array<PhaseFacts, 7> kPhases = {{
    {Phase::none, "", "create state, log and shadow", Phase::created, false, false},
    {Phase::created, "created", "create the triggers: from now on every change is noted",
     Phase::copying, false, true},
    {Phase::copying, "copying",
     "copy the live sessions, chunk by chunk; remove those that changed meanwhile; build the "
     "indexes",
     Phase::catching_up, true, true},
    {Phase::catching_up, "catching up",
     "VACUUM, bring the changed sessions up to date, compare all", Phase::ready, true, true},
    {Phase::ready, "ready", "bring up to date, try the exchange, until it succeeds",
     Phase::exchanged, true, true},
    {Phase::exchanged, "exchanged", "drop the replaced table and the rest", Phase::none, false,
     true},
    {Phase::stopped, "stopped",
     "remove what a run left that gave up and couldn't take its triggers away", Phase::none, false,
     false},
}};

/// Of a phase that is in the table.
constexpr const PhaseFacts& facts_of(Phase phase) {
  for (const PhaseFacts& facts : kPhases)
    if (facts.phase == phase) return facts;
  return kPhases.front();
}

constexpr Phase phase_named(std::string_view name) {
  for (const PhaseFacts& facts : kPhases)
    if (!name.empty() && facts.name == name) return facts.phase;
  return Phase::unknown;
}

}  // namespace django_session::sessions
