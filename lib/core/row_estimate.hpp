// How many rows there are, and how many sessions have expired, without counting: from the planner's
// statistics.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/known.hpp"

namespace django_session {

/// How the values of expire_date were spread at the last ANALYZE (pg_stats); seconds since 1970.
/// They are points in time, so that reading them against a later "now" stays right for the rows
/// that existed then.
struct ValueDistribution {
  double null_fraction = 0;
  std::vector<double> common_values,
      common_frequencies;         ///< the most common values; fractions of all rows
  std::vector<double> histogram;  ///< bounds of equally full buckets of the other values

  /// A count at some time after the statistics were made: what they say on either side of it is
  /// scaled to agree with it. A sample of 30,000 rows knows a share of 3 % no better than to 3 % of
  /// itself; one count for each statistics run fixes that.
  struct Counted {
    double time, fraction_before;
    double changes = 0;  ///< RelationCounters::changed of that time: known of since
  };
  std::optional<Counted> counted;

  bool known() const { return !histogram.empty() || !common_values.empty(); }

  /// Fraction of all rows (0..1) whose value is before `time`; linear within a bucket.
  double fraction_before(double time) const;
  /// Agrees from then on with a share of expired rows among those that the statistics know of and
  /// are still there. `oldest` as for estimate_sessions().
  void agree_with(double expired_share, double now, std::optional<double> oldest);

 private:
  double sampled_fraction_before(double time) const;
};

/// What pg_class and the cumulative statistics say about one relation.
struct RelationCounters {
  double tuples = -1;  ///< pg_class.reltuples; -1 (before PostgreSQL 14: 0 with 0 pages) if never
                       ///< vacuumed or analyzed
  double catalog_pages = 0;  ///< pg_class.relpages, as of then
  double live = 0, dead = 0,
         inserted = 0;    ///< pg_stat_all_tables: n_live_tup, n_dead_tup, n_tup_ins
  bool anchored = false;  ///< a vacuum or analyze is on record, so live and dead don't count from a
                          ///< reset or a crash only
  std::optional<double> changed;  ///< rows inserted, updated or deleted since the last ANALYZE;
                                  ///< nothing where none is on record
  std::string stand_still{};  ///< why live and dead don't follow the table's changes; empty if they
                              ///< do

  /// reltuples and relpages are known.
  bool counted_by_vacuum() const { return tuples >= 0 && catalog_pages > 0; }
  /// Rows in `pages` pages that are as full as at the last vacuum or analyze. Only if
  /// counted_by_vacuum().
  double tuples_in(double pages) const { return tuples / catalog_pages * pages; }
};

/// Up to which share of the rows may have changed since the statistics were made: autovacuum renews
/// them after 10 %. One look, which nothing corrects later, asks for more; figures that are read
/// again and again stay with one source while the site is healthy.
inline constexpr double kFewChanges = 0.05, kUsualChanges = 0.2;

/// More rows have changed, or (where they have ever been vacuumed) nobody knows how many. VACUUM
/// doesn't end that: ANALYZE does.
bool outdated(const RelationCounters& counters, double share);

/// Rows that this reading has seen itself, in a random part of the table's pages.
struct RowSample {
  double share = 1;  ///< of the pages; 1: all of them, so that the rows are counted
  double rows = 0, expired = 0;

  bool complete() const { return share >= 1; }
  double all_rows() const { return rows / share; }
  double all_expired() const { return expired / share; }
};

struct RowCount {
  Known<double> rows, dead;
  bool by_sample = false;  ///< the counters don't fit what was seen
};

/// Rows and dead row versions in a relation of `pages` pages now. The counters are believed where
/// they fit what the last vacuum or analyze has counted, or what was seen since: deletions that
/// reach them after the VACUUM that removed the rows are counted twice, a crash or a reset loses
/// them, track_counts = off stops them. Else what was seen counts, or nobody knows.
RowCount estimate_rows(const RelationCounters& counters, double pages,
                       const std::optional<RowSample>& seen);

struct SessionCount {
  double live = 0, expired = 0;
};

/// How many of `rows` the statistics know of: the others came later. `oldest`: see below.
double rows_of_statistics(double rows, const ValueDistribution& distribution, double now,
                          std::optional<double> oldest, const RelationCounters& counters);

/// Splits `rows` sessions into live and expired as of `now`.
/// `oldest` is the earliest expire_date that still exists: what the statistics saw before it has
/// been deleted since. Of `counters`, reltuples and the number of changes: rows that came after the
/// statistics are live.
SessionCount estimate_sessions(double rows, const ValueDistribution& distribution, double now,
                               std::optional<double> oldest, const RelationCounters& counters);

}  // namespace django_session
