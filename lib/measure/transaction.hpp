// How every transaction of ours begins and ends.
#pragma once

#include <chrono>
#include <string>

namespace django_session::sessions {

enum class Access { read_only, read_write };

/// What the server bears of one statement: waiting for one lock, and all of it.
struct TransactionLimits {
  std::chrono::milliseconds lock, statement;
};

/// BEGIN and settings, which end with the transaction: SET LOCAL, because behind a pooler the next
/// one on this backend is another client's. Nothing but pg_catalog is searched from here on:
/// neither an operator that a stranger has put into `public` nor a temporary table that is called
/// like a catalogue is taken for the system's. What a CHECK says is not evaluated for a plan. Dates
/// are ISO. `first`: statements for which the session's search_path still holds.
std::string begin_transaction(Access access, TransactionLimits limits,
                              const std::string& first = "");

enum class Lasts { as_long_as_the_transaction, as_long_as_the_session };

/// A statement without rows. What ends a whole transaction would end the connection, too.
std::string lift_transaction_timeout(Lasts lasts);

/// To be part of a transaction that asks the catalogues much: a database where, say, nested loops
/// are off would take seconds for it.
extern const char* const kUsualPlans;

/// The planner must take an index, whatever it believes about the number of rows: a wrong guess
/// would read the whole table.
extern const char* const kByIndex;

/// One message that is one transaction.
struct Transaction {
  enum class Plans { as_set, usual, by_index };  ///< as_set: as the database has it
  enum class End { commit, roll_back };

  Access access;
  TransactionLimits limits;
  Plans plans = Plans::as_set;
  /// COMMIT waits neither for the disk nor for a standby that may be gone: for what may come back
  /// after a crash.
  bool quick_commit = false;
  End end = End::commit;

  /// `work`: statements, each with its semicolon.
  std::string sql(const std::string& work) const;
};

}  // namespace django_session::sessions
