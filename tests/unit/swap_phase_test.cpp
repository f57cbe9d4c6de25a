// The table of a swap's phases.
#include "cleanup/swap_phase.hpp"

#include <set>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session::sessions;

TEST_GROUP(SwapPhase){};

TEST(SwapPhase, is_named_in_the_state_as_former_versions_named_it) {
  const std::set<std::string_view> names = {"created", "copying",   "catching up",
                                            "ready",   "exchanged", "stopped"};
  for (const PhaseFacts& facts : kPhases)
    CHECK_TRUE(facts.phase == Phase::none || names.contains(facts.name));
  for (const std::string_view name : names) CHECK_TRUE(facts_of(phase_named(name)).name == name);
}

TEST(SwapPhase, is_unknown_if_somebody_else_wrote_it) {
  for (const char* name : {"", "Created", "catching_up", "done"})
    CHECK_TRUE(phase_named(name) == Phase::unknown);
}

TEST(SwapPhase, leads_from_nothing_through_all_that_resume_to_nothing) {
  std::set<Phase> passed;
  Phase phase = Phase::none;
  do {
    passed.insert(phase);
    phase = facts_of(phase).then;
  } while (phase != Phase::none && !passed.contains(phase));
  CHECK_TRUE(phase == Phase::none);
  for (const PhaseFacts& facts : kPhases) {
    CHECK_TRUE(passed.contains(facts.phase) == (facts.resumes || facts.phase == Phase::none));
    CHECK_FALSE(facts.step.empty());
  }
}

TEST(SwapPhase, is_kept_only_where_something_is_copied_and_nothing_exchanged) {
  for (const PhaseFacts& facts : kPhases) {
    CHECK_TRUE(facts.resumes || !facts.keeps);
    CHECK_FALSE(facts.keeps && (facts.phase == Phase::created || facts.then == Phase::none));
  }
}
