// Every text says what the code of the method does, with the same limits; the SQL is made by the
// same functions.
#include "cleanup/outline.hpp"

#include <fmt/format.h>

#include <utility>

#include "cleanup/batch_delete.hpp"
#include "cleanup/delete_access.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/reclaim.hpp"
#include "cleanup/reclaim_rights.hpp"
#include "cleanup/reindex.hpp"
#include "cleanup/swap.hpp"
#include "cleanup/vacuum_full.hpp"
#include "core/batch_size.hpp"
#include "core/index_bloat.hpp"
#include "core/quantity.hpp"
#include "core/sql_name.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

std::string duration(milliseconds time) {
  if (time < std::chrono::seconds(1)) return fmt::format("{} ms", time.count());
  return format_quantity(static_cast<double>(time.count()) / 1000, Unit::seconds);
}

class Outline {
 public:
  Outline(Run& run, const Planned& planned)
      : run_(run),
        planned_(planned),
        access_(delete_access(run)),
        rights_(reclaim_rights(run)),
        cutoff_(cutoff_of(run)) {}

  CleanupOutline all() {
    CleanupOutline outline;
    outline.cutoff = cutoff_;
    if (planned_.plan.refused) return outline;
    outline.sql = sql();
    if (planned_.plan.nothing_to_do) return outline;
    outline.goes = goes();
    outline.makes = makes();
    outline.locks = locks();
    outline.keeps = keeps();
    outline.undo = undo();
    return outline;
  }

 private:
  bool swaps() const { return planned_.plan.method == Method::swap; }
  bool rewrites() const { return planned_.plan.method == Method::full; }
  bool reindexes() const { return !rewrites() && rights_.vacuum && rights_.reindex; }

  std::string goes() const {
    const auto keep = static_cast<double>(run_.options().keep.count());
    const std::string less =
        keep > 0 ? ", less --keep " + format_quantity(keep, Unit::seconds) : "";
    return fmt::format(
        "sessions with an expire_date before {} UTC: now by the server's clock{}; the run decides "
        "it again as it begins",
        cutoff_.substr(0, cutoff_.find('.')), less);
  }

  std::string makes() const {
    if (swaps()) return makes_of_swap();
    std::string text = "nothing that stays";
    if (access_.way == DeleteAccess::Way::as_owner)
      text += fmt::format(
          "; in each batch's transaction a function and a materialized view, {}.djs_<run>_delete",
          sql_identifier(run_.target().schema));
    if (reindexes())
      text +=
          "; while an index is rebuilt, <index>_ccnew and _ccold (left invalid by a run that is "
          "killed there; the next run or --abort drops them)";
    if (rewrites()) text += "; VACUUM FULL's copy of the table, which has no name of its own";
    return text;
  }

  std::string makes_of_swap() const {
    const std::string prefix = fmt::format("djs_{}_", run_.target().oid);
    return fmt::format(
        "in schema {0}, owned by {1}: the tables {2}new (which takes the name), {2}state and "
        "{2}log, the function {2}note, triggers {2}changed, {2}deleted and {2}truncated on the "
        "table; the old table is djs_<new OID>_old until it is dropped; in single transactions a "
        "function and a materialized view djs_<run>_<n>; a sequence each of state and log. All is "
        "removed in the end",
        sql_identifier(run_.target().schema), sql_identifier(run_.target().owner), prefix);
  }

  std::string locks() const { return swaps() ? locks_of_swap() : locks_of_deletion(); }

  std::string locks_of_swap() const {
    return fmt::format(
        "SHARE ROW EXCLUSIVE to create the triggers and ACCESS EXCLUSIVE to exchange the tables, "
        "or to remove the triggers, each for milliseconds; waited for {} at a time, with growing "
        "pauses for at most {}, and then given up; twice SHARE UPDATE EXCLUSIVE for moments, for "
        "which a running autovacuum of the table gives way; else as a reader",
        duration(run_.options().lock_timeout), duration(patience::kForSwapsLock));
  }

  std::string locks_of_deletion() const {
    const std::string tried = duration(run_.options().lock_timeout);
    std::string text = fmt::format(
        "the rows of one batch, and ROW EXCLUSIVE on the table, for about {}, with a rest of {} "
        "after each; waited for {} at a time, for at most {}; rows that stay locked are left",
        duration(DeletePace::kAim), duration(DeletePace::pause_after(DeletePace::kAim)), tried,
        duration(patience::kForDeletesLock));
    if (rewrites())
      return text + fmt::format(
                        "; then ACCESS EXCLUSIVE for the whole rewrite: nobody can read or save a "
                        "session until it ends; waited for {} at a time, for at most {}",
                        tried, duration(patience::kForFullsLock));
    if (rights_.vacuum)
      text += fmt::format(
          "; SHARE UPDATE EXCLUSIVE for VACUUM{}, which keeps no session from being read or saved",
          reindexes() ? " and REINDEX CONCURRENTLY" : "");
    return text;
  }

  std::string keeps() const {
    if (swaps())
      return "every session that is kept: compared, all of them, before the exchange, and what "
             "changes until then is brought up to date under the lock; the table's definition, "
             "rights, comments and settings, compared at the exchange; not its OID";
    return "every session that is kept, and the table with its OID, definition and rights";
  }

  std::string undo() const {
    if (run_.options().rehearse)
      return "nothing to undo: a rehearsal exchanges and deletes nothing, and removes what it made";
    if (swaps())
      return "until the exchange everything, by stopping it and --abort; then the old table is "
             "dropped, "
             "and the expired sessions are gone for good";
    return "nothing: each batch is committed, and what it deleted is gone for good; it can be "
           "stopped at any moment, and run again";
  }

  /// Printed in another form, a name could be another table's.
  bool names_can_be_printed() const {
    const SessionTable& table = planned_.measurement.table;
    bool can = survives_printing(table.schema + table.name + table.owner);
    for (const Index& index : table.indexes) can = can && survives_printing(index.name);
    for (const Column& column : planned_.measurement.statistics.columns)
      can = can && survives_printing(column.name);
    return can;
  }

  std::vector<std::string> sql() {
    if (!names_can_be_printed()) return {"-- Not shown: a name in it can't be printed.\n"};
    if (swaps()) return sql_of_swap(run_, planned_.plan, cutoff_);
    std::vector<std::string> all = {
        "-- Deletes a batch of expired sessions; again from where it ended, until none is left.\n" +
        sql_of_first_batch(run_, access_, cutoff_)};
    const auto add = [&all](const char* comment, const std::string& statement) {
      all.push_back(fmt::format("-- {}\n{};\n", comment, statement));
    };
    if (rewrites()) {
      add("Rewrites the table.", sql_of_vacuum_full(run_, rights_.version));
    } else if (rights_.vacuum) {
      add("Frees the space for other sessions.", sql_of_vacuum(run_, rights_.version));
      for (const std::string& index : bloated())
        add("Rebuilds an index.", sql_of_reindex(run_, index));
    }
    return all;
  }

  /// As far as that can be told before anything is deleted.
  std::vector<std::string> bloated() const {
    std::vector<std::string> names;
    const auto afresh = sizes_afresh(planned_.measurement);
    if (!reindexes() || !afresh) return names;
    for (const IndexBloat& index : worth_rebuilding(afresh->indexes)) names.push_back(index.name);
    return names;
  }

  Run& run_;
  const Planned& planned_;
  const DeleteAccess access_;
  const ReclaimRights rights_;
  const std::string cutoff_;
};

}  // namespace

CleanupOutline outline_of(Run& run, const Planned& planned) { return Outline(run, planned).all(); }

}  // namespace django_session::sessions
