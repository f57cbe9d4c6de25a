// Whose swap it is: what an earlier run left is resumed or removed, what is begun belongs to us,
// and what we leave is said.
#pragma once

#include <string>
#include <vector>

#include "cleanup/swap_lock.hpp"
#include "cleanup/swap_report.hpp"
#include "cleanup/swap_run.hpp"
#include "measure/leftovers.hpp"

namespace django_session::sessions {

class SwapState {
 public:
  SwapState(SwapRun& swap, SwapLock& lock) : swap_(swap), lock_(lock) {}

  /// Resumes an interrupted swap, or begins one: then swap.phase is another than none. Throws
  /// LeftToAnother where another run's is alive.
  void acquire();
  void create();

  /// Removes triggers, log, shadow and state; then as say_what_stays().
  std::size_t remove();
  /// All but the triggers. Throws lock_not_available() where another session has locked one.
  void remove_helpers(const SwapNames& names) { remove_helpers(names, whose()); }
  /// What could only be emptied: in the result's message. How many they are.
  std::size_t say_what_stays();
  /// For --abort: true if there was anything.
  bool remove_leftovers();

  /// Whether the state is gone although nobody has taken the swap over or removed it, which leaves
  /// the state to the end: then someone has dropped or renamed it. From then on what is left is
  /// nobody's, and removed as long as no other run has made a state.
  bool was_lost();

  /// Whether it is ours and worth keeping. A copy may take longer than one run may; of an exchange
  /// that is done only the end is missing.
  bool keep_for_next_run() const;
  /// Before the run gives up: nothing that grows or slows the site may stay, if that can be had
  /// within seconds; and what it reports of an exchange isn't to be told again. What stays all the
  /// same, as the end of a message.
  std::string tidy_up();

  /// Before the exchange: of the table and the swap's helpers, one isn't under its name.
  bool lacks_a_table();

 private:
  SwapStateRow read();
  void leave_it_to_its_run(const Leftovers& leftovers);
  void take_over(SwapStateRow row);
  Phase phase_to_go_on_from(const SwapStateRow& row) const;
  void take_over_to_remove();
  void wait_for_lease(SwapStateRow& row);
  bool can_go_on(const SwapStateRow& row) const;
  [[noreturn]] void explain_who_has_the_names();

  Leftovers find_leftovers();
  void remove_orphans(const Leftovers& leftovers);
  void remove(const SwapNames& names, Whose state);
  void remove_helpers(const SwapNames& names, Whose state);
  Whose whose() const;
  std::vector<std::string> triggered_tables(const SwapNames& names);
  std::vector<std::string> tables_with_triggers_now();
  std::string why_not_removed();
  std::vector<std::string> what_stays();
  void end_lease();
  std::string what_is_left();

  SwapRun& swap_;
  SwapLock& lock_;
  bool lost_ = false;  ///< see was_lost()
};

/// "...; the tables are exchanged, but the replaced one is still there..."
std::string replaced_is_left(const std::exception& reason);

}  // namespace django_session::sessions
