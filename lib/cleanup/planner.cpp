// Questions to the catalogue and to the sessions themselves, a trial where the catalogue doesn't
// say enough; then the decision, which asks nobody.
#include "cleanup/planner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "cleanup/clock.hpp"
#include "cleanup/delete_access.hpp"
#include "cleanup/delete_trial.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/reclaim_rights.hpp"
#include "cleanup/session_query.hpp"
#include "cleanup/staying_rows.hpp"
#include "cleanup/swap.hpp"
#include "core/quantity.hpp"
#include "measure/probe.hpp"

namespace django_session::sessions {
namespace {

constexpr const char* kCutoff =
    "SELECT ((now() - {} * interval '1 second') AT TIME ZONE 'UTC')::text AS cutoff;";
// Counting continues up to here, each in rows and all together in time.
constexpr double kCountLiveUpTo = 10e6, kCountExpiredUpTo = 100e3;
// {0} the table, {1} seconds to keep, {2} and {3} how far to count.
constexpr const char* kCounts = R"(
SELECT (SELECT count(*) FROM (SELECT FROM ONLY {0} s
    WHERE s.expire_date >= now() - {1} * interval '1 second' LIMIT {2:.0f} + 1) q) AS live,
  (SELECT count(*) FROM (SELECT FROM ONLY {0} s
    WHERE s.expire_date < now() - {1} * interval '1 second' LIMIT {3:.0f} + 1) q) AS expired,
  (SELECT count(*) FROM (SELECT FROM ONLY {0} s
    WHERE s.expire_date IS NULL LIMIT {3:.0f}) q) AS without_expiry)";

Measurement measure(Run& run, const TableName& table) {
  Probe probe(run.parameters(), table, Counting::estimate);
  probe.use(run.lend_connection());
  try {
    Measurement measurement = probe.measure(run.soon()).measurement;
    run.take_back(probe.give_back());
    return measurement;
  } catch (...) {
    run.take_back(probe.give_back());
    throw;
  }
}

pg::Deadline counting_ends(Run& run) {
  return pg::Deadline::after(
      std::min<std::chrono::milliseconds>(patience::kCounting, run.options().answer_timeout / 2));
}

void refuse_by_the_clock(Run& run, Preflight& preflight, ReadingAs who) {
  auto doubt = doubt_about_the_clock(run);
  if (!doubt) doubt = doubt_by_new_sessions(run, who);
  if (!doubt) return;
  std::vector<Refusal> refusals;
  for (const Method method : {Method::remove, Method::swap, Method::full}) {
    const Refusal refusal{method, "the server's clock", *doubt};
    refusals.push_back(refusal);
  }
  refusals.insert(refusals.end(), preflight.refusals.begin(), preflight.refusals.end());
  preflight.refusals = std::move(refusals);
}

void note_rows_without_expiry(Preflight& preflight, std::optional<double> rows) {
  if (rows.value_or(0) > 0)
    preflight.notes.push_back(fmt::format(
        "{}{} rows without an expire_date never expire: no cleanup deletes them, and no "
        "figure counts them",
        *rows >= kCountExpiredUpTo ? "at least " : "", quantity_text(rows, Unit::rows)));
}

/// As long as that is cheaper than the copying that follows; else the estimates stay, as of the
/// moment before which what has expired is deleted.
void count_what_stays(Run& run, Planned& planned, ReadingAs who) {
  Measurement& measurement = planned.measurement;
  const auto keep = run.options().keep.count();
  if (keep > 0) {
    measurement.facts.now -= static_cast<double>(keep);
    measurement.counted_live.reset();
    measurement.counted_expired.reset();
    measurement.least_expired = 0;
    measurement.seen = Unknown{};  // counted what has expired by now
  }
  const std::string query =
      fmt::format(kCounts, run.target().sql_name, keep, kCountLiveUpTo, kCountExpiredUpTo);
  const auto row =
      ask_sessions(run, who, {{"live", "expired", "without_expiry"}, query}, counting_ends(run));
  if (!row) return;
  note_rows_without_expiry(planned.preflight, row->number("without_expiry"));
  const double live = *row->number("live"), expired = *row->number("expired");
  measurement.counted_live.reset();
  measurement.counted_expired.reset();
  if (live <= kCountLiveUpTo) measurement.counted_live = live;
  if (expired <= kCountExpiredUpTo) measurement.counted_expired = expired;
}

GivingBack giving_back(Run& run) {
  const ReclaimRights rights = reclaim_rights(run);
  return {rights.vacuum, rights.reindex, why_nothing_is_reclaimed(rights, run.target())};
}

/// Of a swap whose shadow is still there, and was made for the same --keep.
std::optional<double> interrupted_swap_age(Run& run, const Preflight& preflight) {
  const auto& objects = preflight.leftovers.objects;
  const auto is_copy = [&](const std::string& object) {
    return object.ends_with(fmt::format("djs_{}_new", run.target().oid)) ||
           object.ends_with(fmt::format("djs_{}_old", run.target().oid));
  };
  const bool same_keep =
      preflight.leftovers.keep.value_or(-1) == static_cast<double>(run.options().keep.count());
  if (!preflight.leftovers.state || !same_keep ||
      std::none_of(objects.begin(), objects.end(), is_copy))
    return std::nullopt;
  return preflight.leftovers.age.value_or(0);
}

std::string describe_orphans(const Leftovers& leftovers) {
  return fmt::format(
      "there are helpers of an interrupted swap (djs_{}_...) that came with a dump, or whose table "
      "is gone: a cleanup with the owner's rights removes them, and so does --abort",
      fmt::join(leftovers.orphans, "_..., djs_"));
}

Circumstances circumstances_of(Run& run, const Planned& planned) {
  const Preflight& preflight = planned.preflight;
  Circumstances circumstances;
  circumstances.values = evaluate(planned.measurement).values;
  circumstances.afresh = sizes_afresh(planned.measurement);
  circumstances.refusals = preflight.refusals;
  circumstances.notes = preflight.notes;
  if (preflight.leftovers.any())
    circumstances.notes.push_back("there is " + describe_leftovers(preflight.leftovers));
  if (!preflight.leftovers.orphans.empty())
    circumstances.notes.push_back(describe_orphans(preflight.leftovers));
  for (const pg::Row& row : run.ask(what_stays_query(run.target().oid)))
    circumstances.notes.push_back(describe_what_stays(row));
  circumstances.room = preflight.room;
  circumstances.sorting = preflight.sorting;
  circumstances.giving_back = giving_back(run);
  circumstances.standbys = preflight.standbys;
  circumstances.interrupted_swap_age = interrupted_swap_age(run, preflight);
  circumstances.interrupted_swap_bytes = preflight.leftovers.bytes;
  return circumstances;
}

/// What the catalogue doesn't say: a right that no query asks for, something that can't be
/// reproduced. What another run has begun since we looked has the names that ours would have: who
/// claims the table later finds that run, and says so.
std::string why_the_swap_would_fail(Run& run, const Preflight& preflight) {
  if (preflight.leftovers.any() || !preflight.leftovers.orphans.empty()) return "";
  const std::string why = why_a_swap_would_fail(run);
  return why.empty() || look_for_leftovers(run).any() ? "" : why;
}

/// Where a trigger runs under another search_path than it has at the site's DELETEs. Behind a
/// pooler the deleting role's trial could take the turn of a cleanup that is running.
DeleteTrial delete_trial(Run& run, bool pooled) {
  const DeleteAccess access = delete_access(run);
  const auto is_contained = [](const auto& trigger) { return trigger.is_contained; };
  if (!access.obstacles.empty() || access.triggers.empty() ||
      (pooled && access.way == DeleteAccess::Way::function) ||
      !std::all_of(access.triggers.begin(), access.triggers.end(), is_contained))
    return {};
  return try_a_delete(run, access, cutoff_of(run));
}

/// Of what the plan would do.
std::vector<Refusal> refusals_by_trial(Run& run, Planned& planned, bool pooled) {
  if (planned.plan.refused) return {};
  if (planned.plan.method == Method::swap) {
    const std::string why = why_the_swap_would_fail(run, planned.preflight);
    if (why.empty()) return {};
    return {{Method::swap, "its new table", "can't be made: " + why}};
  }
  const DeleteTrial trial = delete_trial(run, pooled);
  if (trial.stays)
    planned.plan.notes.emplace_back(
        "the session that expired first is still there after its DELETE: a trigger or a rule "
        "prevents it");
  if (trial.failure.empty()) return {};
  const std::string reason = "of an expired session fails: " + trial.failure;
  return {{Method::remove, "a DELETE", reason}, {Method::full, "a DELETE", reason}};
}

}  // namespace

std::string cutoff_of(Run& run) {
  return run.ask(fmt::format(kCutoff, run.options().keep.count())).front().text("cutoff");
}

Planned inspect(Run& run, const TableName& wanted) {
  Planned planned;
  planned.measurement = measure(run, wanted);
  const SessionTable& table = planned.measurement.table;
  planned.preflight = look(run, {table.schema, table.name});
  if (run.target().oid != table.oid)
    throw LeftToAnother("the table was replaced while it was measured");
  return planned;
}

Planned plan(Run& run, const TableName& table) {
  Planned planned = inspect(run, table);
  const bool pooled = run.connection().is_pooled(run.soon());
  const Refusal full_by_pooler{Method::full, "the connection",
                               "goes through a pooler; VACUUM FULL needs a direct connection"};
  if (pooled) planned.preflight.refusals.push_back(full_by_pooler);
  const ReadingAs who = who_may_read(run);
  refuse_by_the_clock(run, planned.preflight, who);
  count_what_stays(run, planned, who);
  planned.measurement.staying =
      look_at_what_stays(run, who, planned.measurement, counting_ends(run));
  Circumstances circumstances = circumstances_of(run, planned);
  planned.plan = plan_from(circumstances, run.options());
  const auto found = refusals_by_trial(run, planned, pooled);
  if (found.empty()) return planned;
  for (const Refusal& refusal : found) planned.preflight.refusals.push_back(refusal);
  circumstances.refusals = planned.preflight.refusals;
  planned.plan = plan_from(circumstances, run.options());
  return planned;
}

}  // namespace django_session::sessions
