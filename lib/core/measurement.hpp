// One look at a session table, as the server told it, and the metrics that follow from it. Sizes in
// bytes, times in seconds since 1970 by the server's clock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/index_bloat.hpp"
#include "core/known.hpp"
#include "core/metric.hpp"
#include "core/oid.hpp"
#include "core/packing.hpp"
#include "core/reclaimable.hpp"
#include "core/row_estimate.hpp"

namespace django_session {

/// A column as the catalogue and, as far as this role may see them, the statistics describe it.
struct Column {
  std::string name;
  double length = -1;  ///< pg_attribute.attlen: bytes, -1 for values of varying length
  double alignment = 1;
  std::optional<double> average_width;  ///< bytes as stored
  double null_fraction = 0, distinct = 0;
  bool never_analyzed = false;  ///< its statistics target is 0, so ANALYZE passes it over
};

struct Index {
  std::string name;
  Oid oid;
  double bytes = 0;  ///< of a measurement: when it was made; else by the catalogue's pages
  bool valid = true, unique = false;
  double fillfactor = 90;
  bool plain_btree = true;  ///< no expression, no predicate
  std::vector<std::string> columns;
};

/// A swap's trigger writes the keys of changed sessions into a log until the swap has ended.
struct SwapUnderWay {
  double logged = 0;              ///< changes so far
  std::optional<double> started;  ///< seconds since 1970
  double keep_seconds = 0;        ///< its --keep: with another one it isn't resumed
  bool runs = false;              ///< its cleanup has the table's lock
};

/// What the table is, and what this role may do with it: changes seldom.
struct SessionTable {
  Oid oid;
  std::string database, schema, name, owner, role;
  bool role_is_superuser = false;
  double fillfactor = 100;
  std::vector<Index> indexes;
  bool may_use_schema = true, may_read_expire_date = true;
  bool hides_rows = false;  ///< from this role, by row security
  bool expire_date_indexed = true;
  std::optional<SwapUnderWay> swap;

  std::string full_name() const { return schema + "." + name; }
};

/// What ANALYZE has found out, as far as this role may see it.
struct PlannerStatistics {
  std::vector<Column> columns;
  ValueDistribution expire_dates;
};

/// What the server counts and notes: readable while the table is locked, too.
struct ServerFacts {
  double now = 0;
  bool standby = false;
  RelationCounters counters, toast_counters;
  std::optional<double> last_vacuum, last_analyze;
  double rows_inserted = 0, rows_updated = 0, rows_deleted = 0;  ///< since the statistics began
};

/// The rows that stay, as they are stored: by a look at some of them. (The statistics have the
/// average of all rows; those that expire can be much smaller or larger than those that stay.)
struct StayingRows {
  SizeSpread tuples;           ///< in the heap, with header and alignment
  double toasted = 0;          ///< the share that has a value in TOAST
  SizeSpread values;           ///< of those, as stored there
  std::vector<double> widths;  ///< average ones, of each of the statistics' columns
};

/// Who keeps the table from being read, as far as this role may see it.
struct LockQueue {
  std::string by;                ///< "pid 4711 (role admin, psql), VACUUM FULL, for 90 s", or empty
  std::string head;              ///< "pid 4700": whose end would set the others going; or empty
  std::string end_it;            ///< as SQL; empty where it isn't known who that is
  std::optional<double> waited;  ///< seconds, of the first of those who wait; nothing: nobody does
};

/// Who has something that others wait for or would have removed.
struct Holder {
  std::string who;     ///< "pid 4711 of role site (gunicorn), in a transaction for 3 h"
  std::string end_it;  ///< as SQL; empty where it isn't to be ended from here
};

struct Measurement {
  SessionTable table;
  PlannerStatistics statistics;
  ServerFacts facts;

  // Sizes: exact, or (while another session has locked the table) as last seen, or by the
  // catalogue's pages, which date from the last vacuum or analyze
  bool locked = false;
  LockQueue lock;  ///< while `locked`
  bool sizes_are_exact = false;
  std::string sizes_unknown;  ///< why, where not even the catalogue knows
  double heap_bytes = 0;      ///< main fork only
  double table_bytes = 0, toast_heap_bytes = 0, toast_index_bytes = 0;

  // Rows
  std::optional<double> counted_live, counted_expired;  ///< where they were counted
  double least_live = 0, least_expired = 0;  ///< so many have been seen, where not all were counted
  bool damaged = false;     ///< a page or a file that was read: of the table or of an index
  std::string not_counted;  ///< why counting, though asked for, ended in an estimate
  Known<std::optional<double>> oldest_expire_date = Unknown{"not asked for"};  ///< none: no rows
  /// Read where counters or statistics are in doubt; with no reason where they aren't.
  Known<RowSample> seen = Unknown{};
  std::optional<StayingRows> staying;  ///< where they were looked at

  Known<double> database_bytes = Unknown{"not asked for"};
  /// The oldest of those who keep VACUUM from removing what was deleted since; if asked for.
  std::optional<Holder> dead_rows_held_by;

  double toast_bytes() const { return toast_heap_bytes + toast_index_bytes; }
  double indexes_bytes() const;
  double total_bytes() const { return table_bytes + toast_bytes() + indexes_bytes(); }
  /// Nothing where there is none, and where it isn't known.
  std::optional<double> oldest() const {
    return oldest_expire_date ? *oldest_expire_date : std::nullopt;
  }
};

/// Any table of the database, with its TOAST and indexes.
struct TableSize {
  std::string schema, table;
  double bytes = 0;  ///< by the catalogue's pages, so as of its last vacuum or analyze
};

/// The table has been locked for so long, with others waiting, that the site stands still.
bool site_stands_still(const Measurement& measurement);

/// What follows from a measurement, each figure by its best source.
struct Findings {
  MetricValues values;
  std::optional<Reclaimable> reclaimable;  ///< nothing where its value is unknown
  bool by_sample = false;     ///< live and expired follow from rows that this reading has seen
  bool contradicted = false;  ///< fewer of a kind by the statistics than this reading has seen
};

Findings evaluate(const Measurement& measurement);

/// The two metrics that need the database's size, once that has come after the rest.
void evaluate_database(const Measurement& measurement, MetricValues& values);

/// What the files of the table would take with the live sessions alone in them, written afresh; in
/// bytes.
struct SizesAfresh {
  double table = 0, toast = 0;      ///< with their maps and TOAST's index
  std::vector<IndexBloat> indexes;  ///< as they are, and afresh

  double indexes_total() const;
  double total() const { return table + toast + indexes_total(); }
};

/// Nothing where sizes or rows aren't known.
std::optional<SizesAfresh> sizes_afresh(const Measurement& measurement);

/// Which finds the oldest sessions.
bool is_plain_index_on_expire_date(const Index& index);

/// ANALYZE collects nothing of expire_date: its statistics target is 0.
bool expire_date_is_never_analyzed(const Measurement& measurement);

/// A swap that began more than an hour ago and isn't running: its log grows for nothing.
bool swap_was_abandoned(const Measurement& measurement);

}  // namespace django_session
