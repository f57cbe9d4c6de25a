// What the server is asked: the SQL of a measurement, in simple-protocol messages.
//
// definition_message() learns what changes seldom: what the table is, which rights this role has,
// the indexes. reading_message() is what each reading costs: sizes, counters, the oldest session;
// and, at times, the statistics.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/oid.hpp"
#include "measure/prepared.hpp"

namespace django_session::sessions {

/// Statement with rows: name, the catalogues that more_rights() has to look into.
std::string grants_message(std::chrono::milliseconds budget);

/// Statements with rows: search_path, its schemas, definition, indexes. No lock on the table is
/// taken. Both names and the path are SQL string literals; an empty schema means wherever the path
/// has the table, an empty path that the session's counts. `more_rights`: of more_rights().
std::string definition_message(const std::string& schema_literal, const std::string& table_literal,
                               const std::string& path_literal, const std::string& more_rights,
                               std::chrono::milliseconds budget);

/// Where a reading takes the planner's statistics from, as SQL: what this role sees in pg_stats, or
/// roles.sql's function.
std::string own_statistics(const std::string& schema_literal, const std::string& table_literal);
std::string function_statistics(const std::string& function, Oid oid);

/// What a session that can do more than the table's owner asks before it reads rows, because code
/// of the owner's could run with its rights: merely planning a statement evaluates what is constant
/// in the predicates of indexes and in extended statistics.
struct Guard {
  Oid oid;
  std::string table;                          ///< as in Reading
  std::string schema_literal, table_literal;  ///< as SQL
  bool lock = true;        ///< keeps code from being added; not on a standby, and takes a right
  bool superuser = false;  ///< may keep schemas from being renamed, too
};

/// Opens a transaction, which a guarded reading continues and ends. Statement with rows: reason,
/// why rows are not to be read; no row means that all is the system's.
std::string guard_message(const Guard& guard, std::chrono::milliseconds budget);

struct Reading {
  Oid oid, toast_oid;
  std::vector<Oid> index_oids;
  std::string table;  ///< as in FROM: "public"."django_session"
  std::string schema_literal, table_literal, owner_literal;  ///< as SQL
  std::string more_rights;                                   ///< of more_rights()
  bool may_read_expire_date = true;
  bool expire_date_has_zone = true;  ///< timestamptz, for which the session's zone is no matter
  bool expire_date_indexed = true;   ///< else the oldest is not asked for: it would be a scan
  bool exact = false;                ///< count all rows
  bool count_expired = true, count_live = true;  ///< unless there are more than count_up_to
  int count_up_to = 0;
  /// The sample is asked for, too, where a larger share of the rows has changed since the last
  /// ANALYZE; negative: always.
  double changes_to_bear = 0;
  int calibrate_up_to = 0;       ///< count the live rows further than that, for once; 0: don't
  std::string statistics;        ///< where they come from, or empty: don't ask
  Oid function_oid;              ///< where that is a function: it,
  std::string function_literal;  ///< and its name
  bool guarded = false;          ///< continues the transaction of guard_message()
  bool database_size = true;
  std::chrono::milliseconds budget{5000};  ///< for all of it, on the server's side
};

/// Whether the message has the statements, before all and before rows are read, that make sure that
/// the table is the same, that its owner is, and that we still can't do more than he; else they end
/// it with the error kHasChanged, or because the table isn't found.
bool asks_function(const Reading& reading);
bool asks_unguarded(const Reading& reading);
constexpr const char* kHasChanged = "22P02";

/// Whether the message has the statement that reads rows of some pages where the server's counters
/// or the statistics are in doubt. All rows counted are better.
bool asks_sample(const Reading& reading);

/// Statements with rows, in this order: [is as prepared], [is harmless], facts, [statistics],
/// [hold, is harmless], sizes, [expiry], [exact counts], [live count], [sample], [filler, database
/// size]. All but the last are one transaction, which ends before it: the last can take long. A row
/// of filler comes before it, and the answers up to there arrive without waiting for it.
/// `prepared`: of the connection that it is sent over.
std::string reading_message(const Reading& reading, PreparedStatements& prepared);

/// What PreparedStatements::preparation() has.
std::string preparation_message(const std::string& statements, std::chrono::milliseconds budget);

/// After a statement of that message failed: who holds a lock on the table, [filler, database
/// size].
std::string after_failure_message(const Reading& reading);

/// Tables that look like session tables: schema, table.
std::string candidates_message(std::chrono::milliseconds budget);

/// The database's largest tables by the catalogue's pages, without a lock on any: schema, table,
/// bytes.
std::string largest_tables_message(std::chrono::milliseconds budget);

/// See dead_row_holders_query().
std::string dead_row_holders_message(std::chrono::milliseconds budget);

}  // namespace django_session::sessions
