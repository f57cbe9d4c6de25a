// What the server answered: rows in, parts of a measurement out. Pure; the counterparts of
// question.hpp's statements.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/measurement.hpp"
#include "pg/rows.hpp"

namespace django_session::sessions {

/// What changes seldom: learned at the first reading, and again after an ANALYZE or a change of the
/// table.
struct Definition {
  SessionTable table;
  PlannerStatistics statistics;  ///< come with a reading
  Oid schema_oid, toast_oid;
  char relkind = 'r';
  bool has_expire_date = true, expire_date_is_time = true;
  bool expire_date_has_zone = true;    ///< timestamptz; else `timestamp`, in the session's zone
  bool row_security = false;           ///< hides rows from this role
  bool has_more_rights = false;        ///< than the table's owner
  std::string more_rights;             ///< as SQL, which tells that
  bool could_rule_the_server = false;  ///< is a superuser, or could become one
  bool may_lock = false, standby = false;
  Oid statistics_oid;               ///< of roles.sql's function
  std::string statistics_function;  ///< its name as SQL, or empty
  double toast_index_pages = 0;
  double tuples = -1;  ///< pg_class.reltuples
};

Definition read_definition(const pg::Row& row, const pg::Rows& indexes);

/// Nothing if that OID isn't the table of that name any more, or has other indexes or another TOAST
/// table.
std::optional<ServerFacts> read_facts(const pg::Rows& rows, const Definition& definition);
/// Columns with their statistics, as far as they may be seen.
PlannerStatistics read_statistics(const pg::Rows& rows);

/// The sizes are by the catalogue's pages until read_sizes() brings the real ones.
Measurement begin_measurement(const Definition& definition, const ServerFacts& facts);
void read_sizes(const pg::Row& row, Measurement& measurement);
void read_expiry(const pg::Row& row, Measurement& measurement);
void read_sample(const pg::Row& row, Measurement& measurement);
/// Counts that reached their limit are left unknown.
void read_counts(const pg::Row& row, Measurement& measurement);
/// Makes the distribution agree with the live rows just counted; as the statistics have it where
/// the count gave up or all rows aren't known.
void calibrate(const Measurement& measurement, ValueDistribution& distribution);
/// Empty without a row.
LockQueue read_lock_queue(const pg::Rows& rows);

}  // namespace django_session::sessions
