// The decision is pure: findings go in, a plan comes out.
#include "core/cleanup_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/quantity.hpp"
#include "core/work_progress.hpp"

namespace django_session {
namespace {

const Refusal* refusal_of(Method method, const std::vector<Refusal>& refusals) {
  const auto found = std::find_if(refusals.begin(), refusals.end(),
                                  [method](const Refusal& r) { return r.method == method; });
  return found == refusals.end() ? nullptr : &*found;
}

std::string bytes_text(double bytes) { return format_quantity(bytes, Unit::bytes); }

// Measured on PostgreSQL 15 with sessions of 190 bytes: WAL for each expired row deleted and
// vacuumed, and for each byte of the new table with its indexes.
constexpr double kWalPerDeletedRow = 300;
constexpr double kWalPerNewByte = 1.1;
// While an index is built, an entry takes so many times its size: in memory, and on disk where that
// isn't enough.
constexpr double kSortMemory = 2, kSortFile = 1.1;

double sum_of(const std::vector<IndexBloat>& indexes, double (*bytes)(const IndexBloat&)) {
  double sum = 0;
  for (const IndexBloat& index : indexes) sum += bytes(index);
  return sum;
}

double largest(const std::vector<IndexBloat>& indexes) {
  double bytes = 0;
  for (const IndexBloat& index : indexes) bytes = std::max(bytes, index.compact_bytes);
  return bytes;
}

/// What one file system gets.
struct DiskNeed {
  DiskRoom room;
  double bytes = 0;
  std::vector<std::string> what;

  void add(double more, const char* name) {
    bytes += more;
    if (std::find(what.begin(), what.end(), name) == what.end()) what.emplace_back(name);
  }
};

/// By file system; folders that can't be seen count as one each.
class DiskNeeds {
 public:
  void add(const DiskRoom& room, double bytes, const char* what) {
    if (bytes <= 0) return;
    at(room).add(bytes, what);
  }
  DiskNeed& at(const DiskRoom& room) {
    DiskNeed& need = needs_[key(room)];
    if (need.what.empty()) need.room = room;
    return need;
  }
  static std::string key(const DiskRoom& room) {
    return room.file_system.empty() ? room.folder : room.file_system;
  }
  std::vector<DiskNeed> all() const {
    std::vector<DiskNeed> all;
    for (const auto& [key, need] : needs_) all.push_back(need);
    return all;
  }

 private:
  std::map<std::string, DiskNeed> needs_;
};

/// What one method would cost and leave; nothing where it isn't known.
struct Forecast {
  std::optional<double> bytes_after, extra_disk, temporary, wal;
  std::vector<DiskNeed> disks;
};

double left_over(const DiskNeed& need) { return *need.room.free - need.bytes; }

/// The fullest of those that are seen.
const DiskNeed* tightest(const std::vector<DiskNeed>& disks) {
  const DiskNeed* found = nullptr;
  for (const DiskNeed& need : disks)
    if (need.room.free && (found == nullptr || left_over(need) < left_over(*found))) found = &need;
  return found;
}

const DiskNeed* unseen(const std::vector<DiskNeed>& disks) {
  const auto found = std::find_if(disks.begin(), disks.end(),
                                  [](const DiskNeed& need) { return !need.room.free; });
  return found == disks.end() ? nullptr : &*found;
}

/// An interrupted swap is resumed, whatever would be chosen afresh.
bool is_to_be_resumed(const Circumstances& c) {
  return c.interrupted_swap_age && *c.interrupted_swap_age <= kOldestSwapToResume;
}

/// The figures that the methods share.
class Outlook {
 public:
  explicit Outlook(const Circumstances& c) : c_(c) {
    for (const Metric metric : {Metric::expired, Metric::live, Metric::total, Metric::reclaimable})
      if (const MetricValue& value = c.values[metric]; !value.number && unknown_.empty())
        unknown_ = value.reason;
  }

  std::optional<double> number(Metric metric) const { return c_.values[metric].number; }
  const std::string& unknown() const { return unknown_; }  ///< why; empty when all is known
  bool known() const { return c_.afresh && number(Metric::total) && number(Metric::expired); }

  Forecast of(Method method) const {
    if (!known()) return {};
    return method == Method::remove ? of_deleting() : of_rewriting(method);
  }

 private:
  double wal_of_deleting() const { return *number(Metric::expired) * kWalPerDeletedRow; }

  double temporary(const std::vector<IndexBloat>& built) const {
    const double bytes = largest(built);
    return bytes * kSortMemory > c_.sorting.memory ? bytes * kSortFile : 0;
  }

  Forecast of_rewriting(Method method) const {
    const double after = c_.afresh->total(), sorting = temporary(c_.afresh->indexes);
    const bool resumed = method == Method::swap && is_to_be_resumed(c_);
    const double there = resumed ? std::min(c_.interrupted_swap_bytes, after) : 0;
    const double wal =
        method == Method::swap ? (after - there) * kWalPerNewByte : wal_of_deleting() + after;
    DiskNeeds disks;
    disks.add(c_.room.table, std::max(0.0, c_.afresh->table + c_.afresh->toast - there),
              "the new table");
    for (const IndexBloat& index : c_.afresh->indexes)
      disks.add(room_of(index), index.compact_bytes, "its indexes");
    add_passing(disks, sorting, wal);
    return {after, after - there + sorting, sorting, wal, disks.all()};
  }

  const DiskRoom& room_of(const IndexBloat& index) const {
    const auto found = c_.room.indexes.find(index.name);
    return found == c_.room.indexes.end() ? c_.room.table : found->second;
  }

  /// What doesn't stay. Any of the temporary tablespaces may get all.
  void add_passing(DiskNeeds& disks, double sorting, double wal) const {
    std::vector<std::string> seen;
    for (const DiskRoom& room : c_.room.temporary) {
      const std::string key = DiskNeeds::key(room);
      if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
      disks.add(room, sorting, "temporary files");
      seen.push_back(key);
    }
    disks.add(c_.room.wal, std::min(wal, c_.room.wal_kept.value_or(wal)), "WAL");
  }

  /// One after the other: each is dropped before the next is built.
  void add_largest(DiskNeeds& disks, const std::vector<IndexBloat>& rebuilt) const {
    std::map<std::string, const IndexBloat*> largest;
    for (const IndexBloat& index : rebuilt) {
      const IndexBloat*& most = largest[DiskNeeds::key(room_of(index))];
      if (most == nullptr || most->compact_bytes < index.compact_bytes) most = &index;
    }
    for (const auto& [key, index] : largest)
      disks.add(room_of(*index), index->compact_bytes, "the largest index");
  }

  /// Without VACUUM no space is there for the new index' entries to be fewer.
  Forecast of_deleting() const {
    std::vector<IndexBloat> rebuilt;
    if (c_.giving_back.vacuum && c_.giving_back.reindex)
      rebuilt = worth_rebuilding(c_.afresh->indexes);
    const double built =
        sum_of(rebuilt, [](const IndexBloat& index) { return index.compact_bytes; });
    const double gain = sum_of(rebuilt, [](const IndexBloat& index) { return index.gain(); });
    const double sorting = temporary(rebuilt);
    const double wal = wal_of_deleting() + built;
    DiskNeeds disks;
    add_largest(disks, rebuilt);
    add_passing(disks, sorting, wal);
    return {*number(Metric::total) - gain, largest(rebuilt) + sorting, sorting, wal, disks.all()};
  }

  const Circumstances& c_;
  std::string unknown_;
};

/// Why a swap wouldn't pay; empty where it does.
std::string not_worth_a_swap(const Outlook& outlook) {
  if (!outlook.known())
    return fmt::format("what a swap would give back is unknown: {}", outlook.unknown());
  const double total = *outlook.number(Metric::total);
  const double swapped = *outlook.of(Method::swap).bytes_after;
  const double more = *outlook.of(Method::remove).bytes_after - swapped;
  if (more < kSwapWorthBytes)
    return fmt::format("a swap (--method swap) would give back only {} more; it pays above {}",
                       bytes_text(std::max(more, 0.0)), bytes_text(kSwapWorthBytes));
  if (swapped > kSwapMostWritten * total)
    return fmt::format(
        "a swap (--method swap) would give back {} more, but rewrite {} of the bytes; "
        "it pays up to {}",
        bytes_text(more), format_quantity(100 * swapped / total, Unit::percent),
        format_quantity(100 * kSwapMostWritten, Unit::percent));
  return "";
}

void choose(CleanupPlan& plan, const Circumstances& c, const Outlook& outlook) {
  const Refusal* refusal = refusal_of(Method::swap, plan.refusals);
  const std::string worthless = not_worth_a_swap(outlook);
  plan.method = Method::remove;
  if (refusal != nullptr) {
    plan.reason = "a swap is not possible: " + describe(*refusal);
  } else if (is_to_be_resumed(c)) {
    plan.method = Method::swap;
    plan.reason = "resumes the interrupted swap";
  } else if (const Refusal* other = refusal_of(Method::remove, plan.refusals)) {
    plan.method = Method::swap;
    plan.reason = "a deletion is not possible: " + describe(*other);
  } else if (!worthless.empty()) {
    plan.reason = worthless;
  } else {
    const double total = *outlook.number(Metric::total);
    const double after = *outlook.of(Method::swap).bytes_after;
    plan.method = Method::swap;
    plan.reason =
        fmt::format("gives back {} and rewrites {}", bytes_text(total - after), bytes_text(after));
  }
}

/// "the new table, its indexes and WAL".
std::string contents(const DiskNeed& need) {
  std::string text;
  for (std::size_t i = 0; i < need.what.size(); ++i)
    text += (i == 0 ? "" : i + 1 < need.what.size() ? ", " : " and ") + need.what[i];
  return text;
}

std::string why_too_little(const DiskNeed& need) {
  return fmt::format("has {} free in {}, not the {} needed for {}", bytes_text(*need.room.free),
                     need.room.folder, bytes_text(need.bytes), contents(need));
}

void refuse_for_want_of_room(CleanupPlan& plan, const Outlook& outlook, const Circumstances& c) {
  for (const Method method : {Method::swap, Method::full}) {
    const Forecast cost = outlook.of(method);
    if (!cost.extra_disk) continue;
    if (const DiskNeed* disk = tightest(cost.disks); disk != nullptr && left_over(*disk) < 0)
      plan.refusals.push_back({method, "the server's disk", why_too_little(*disk)});
    const auto limit = c.sorting.temporary_files_max;
    if (limit && *limit < *cost.temporary)
      plan.refusals.push_back(
          {method, "the server's temp_file_limit",
           fmt::format("is {}: building the largest index needs {} of temporary files, or more "
                       "maintenance_work_mem",
                       bytes_text(*limit), bytes_text(*cost.temporary))});
  }
}

void judge_the_room(CleanupPlan& plan, const Forecast& cost, const Circumstances& c) {
  plan.free_disk_bytes = c.room.table.free;
  if (!cost.extra_disk) return;
  const DiskNeed *least = tightest(cost.disks), *hidden = unseen(cost.disks);
  if (least != nullptr) plan.free_disk_bytes = least->room.free;
  if (least != nullptr && left_over(*least) < 0) {
    plan.fits = false;
    plan.disk = fmt::format("in {}, not the {} needed for {}", least->room.folder,
                            bytes_text(least->bytes), contents(*least));
  } else if (hidden == nullptr) {
    plan.fits = true;
  } else {
    plan.disk = fmt::format("{}, for {}", hidden->room.folder, contents(*hidden));
  }
}

// On the machine where the steps were measured, all was in memory. What is slower there are disks.
constexpr double kFaster = 0.5, kSlower = 4;
// Seconds of what any run does: it looks, compares clocks, waits for snapshots of a moment.
constexpr double kLeastOfAnyRun = 1, kMostOfAnyRun = 5;

/// By the steps that take its time.
void foresee_time(CleanupPlan& plan) {
  double seconds = 0;
  for (const WorkStep& step : work_steps(plan)) seconds += step.seconds;
  if (seconds <= 0 || plan.refused) return;
  plan.least_seconds = kLeastOfAnyRun + kFaster * seconds;
  plan.most_seconds = kMostOfAnyRun + kSlower * seconds;
}

void foresee(CleanupPlan& plan, const Outlook& outlook, const Circumstances& c) {
  const auto is_exact = [&](Metric metric) {
    const MetricValue& value = c.values[metric];
    return value.number && value.certainty == Certainty::exact;
  };
  plan.live_rows = outlook.number(Metric::live);
  plan.expired_rows = outlook.number(Metric::expired);
  plan.live_is_counted = is_exact(Metric::live);
  plan.expired_is_counted = is_exact(Metric::expired);
  plan.bytes_before = outlook.number(Metric::total);
  plan.unknown = outlook.unknown();
  const Forecast cost = outlook.of(plan.method);
  plan.bytes_after = cost.bytes_after;
  plan.extra_disk_bytes = cost.extra_disk;
  plan.temporary_bytes = cost.temporary;
  plan.wal_bytes = cost.wal;
  foresee_time(plan);
  judge_the_room(plan, cost, c);
}

/// Nothing has expired, and what the method would give back isn't worth mentioning. A rewrite that
/// was asked for is done all the same.
void look_for_nothing_to_do(CleanupPlan& plan) {
  constexpr double kWorthAWord = 1024 * 1024;
  const bool none = plan.expired_is_counted && plan.expired_rows == 0.0;
  const double gain = plan.bytes_before.value_or(0) - plan.bytes_after.value_or(0);
  const bool nothing = none && !plan.refused && plan.bytes_after && gain < kWorthAWord;
  if (!nothing) return;
  const std::string why =
      plan.keep.count() > 0
          ? fmt::format("no session expired more than {} ago",
                        format_quantity(static_cast<double>(plan.keep.count()), Unit::seconds))
          : "no session has expired";
  plan.nothing_to_do = plan.method == Method::remove;
  if (plan.nothing_to_do) plan.least_seconds = plan.most_seconds = std::nullopt;
  plan.reason = plan.nothing_to_do ? "nothing to do: " + why : plan.reason + ", though " + why;
}

constexpr double kGrows = 1.05;  // the forecast is no better than this

/// Of the method that was chosen.
void add_notes(CleanupPlan& plan, const Circumstances& c) {
  const bool locks = plan.method != Method::remove;
  if (!locks) plan.left_to_others = c.giving_back.who_can;
  if (plan.method == Method::full)
    plan.notes.push_back("the site is blocked while the table is rewritten: VACUUM FULL locks it");
  if (locks && plan.bytes_after.value_or(0) > kGrows * plan.bytes_before.value_or(0))
    plan.notes.push_back(
        "the table will grow: after its pages were filled, its fillfactor or an index's was "
        "lowered, or a column was added with a DEFAULT that is stored in each row only now");
  if (!locks && !c.giving_back.vacuum) return;  // nothing that a standby's queries would notice
  for (const std::string& standby : c.standbys)
    plan.notes.push_back(
        standby +
        (locks
             ? " will replay an exclusive lock on the table: replay waits there for queries that "
               "use it, and cancels them after its max_standby_streaming_delay (30 s by default)"
             : " will replay the VACUUM: queries there that began before it may be cancelled after "
               "its max_standby_streaming_delay, unless it has hot_standby_feedback"));
}

/// What stands in the way of this method stands in that of every other, too.
bool is_general(const Refusal& refusal, const std::vector<Refusal>& refusals) {
  const auto same = [&](Method method) {
    return std::any_of(refusals.begin(), refusals.end(), [&](const Refusal& other) {
      return other.method == method && other.object == refusal.object &&
             other.reason == refusal.reason;
    });
  };
  return same(Method::swap) && same(Method::remove) && same(Method::full);
}

/// The next method that is possible, from the one that gives back most.
std::string alternative_to(Method method, const std::vector<Refusal>& refusals) {
  for (const Method other : {Method::swap, Method::remove})
    if (other != method && refusal_of(other, refusals) == nullptr)
      return fmt::format("; use --method {}", method_name(other));
  return "; no other method is possible either";
}

std::string why_refused(const Refusal& refusal, const CleanupPlan& plan) {
  if (is_general(refusal, plan.refusals)) return "nothing can be cleaned: " + describe(refusal);
  return fmt::format("{} is not possible: {}{}", method_name(plan.method), describe(refusal),
                     alternative_to(plan.method, plan.refusals));
}

}  // namespace

std::string describe(const Refusal& refusal) { return refusal.object + " " + refusal.reason; }

std::vector<std::string> all_notes(const CleanupPlan& plan) {
  std::vector<std::string> notes = plan.notes;
  if (!plan.left_to_others.empty()) notes.push_back(plan.left_to_others);
  return notes;
}

CleanupPlan plan_from(const Circumstances& circumstances, const CleanupOptions& options) {
  CleanupPlan plan;
  plan.keep = options.keep;
  plan.refusals = circumstances.refusals;
  plan.notes = circumstances.notes;
  const Outlook outlook(circumstances);
  refuse_for_want_of_room(plan, outlook, circumstances);
  if (options.method == Method::automatic) {
    choose(plan, circumstances, outlook);
  } else {
    plan.method = options.method;
    plan.reason = "as requested";
  }
  if (const Refusal* refusal = refusal_of(plan.method, plan.refusals)) {
    plan.refused = true;
    plan.reason = why_refused(*refusal, plan);
  }
  foresee(plan, outlook, circumstances);
  look_for_nothing_to_do(plan);
  add_notes(plan, circumstances);
  return plan;
}

}  // namespace django_session
