// Measures a session table: one message on an open connection, no scan, no wait for a lock beyond
// 100 ms.
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/measurement.hpp"
#include "core/table_name.hpp"
#include "measure/answer.hpp"
#include "measure/prepared.hpp"
#include "measure/question.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// The database answered, but there is no session table of that name in it. what() says what there
/// is instead.
class NoSuchTable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Counting {
  estimate,   ///< from the planner's statistics
  calibrate,  ///< the same, after one count of the live rows (where they are few) for each ANALYZE
              ///< or VACUUM, and for many changes: for repeated readings
  exact,      ///< count all rows, by an index-only scan where an index leads with expire_date
};

/// A measurement, and what follows from it.
struct Reckoned {
  Measurement measurement;
  Findings findings;
};

/// Measures one table again and again over a connection that it keeps open. Not thread-safe.
class Probe {
 public:
  Probe(pg::Parameters parameters, TableName table, Counting counting)
      : connector_(std::move(parameters)), table_(std::move(table)), counting_(counting) {}

  /// To measure over a connection that is open already; give_back() has it, or the one that took
  /// its place, afterwards.
  void use(pg::Connection connection) { connection_ = std::move(connection); }
  std::optional<pg::Connection> give_back() { return std::exchange(connection_, std::nullopt); }

  /// All but the database's size, which can take long: measure_database() adds it. Connects first
  /// if need be; a kept connection that turns out to be dead (a restarted server) is replaced
  /// within the same deadline. Throws pg::Error or NoSuchTable.
  Reckoned measure(pg::Deadline deadline);

  /// The second half of the same message. A size that took too long is unknown, with the reason,
  /// and no error. Where it is expensive (very many relations), an earlier value stands in for up
  /// to twenty times what it cost.
  void measure_database(Reckoned& reckoned, pg::Deadline deadline);

  /// Of the server that was measured; empty before that.
  pg::Address address() const { return connection_ ? connection_->address() : pg::Address{}; }

  /// The database's five largest tables, by the catalogue; to be asked for after the rest. Throws
  /// pg::Error.
  std::vector<TableSize> largest_tables(pg::Deadline deadline);

  /// Up to four tables of the database that look like Django's, each a table_word(). The same.
  std::vector<std::string> session_tables(pg::Deadline deadline);

  /// Who has kept VACUUM from removing dead rows for the longest time. The same.
  std::optional<Holder> oldest_dead_row_holder(pg::Deadline deadline);

 private:
  using Clock = std::chrono::steady_clock;

  Reckoned measure_once(pg::Deadline deadline);
  void prepare(pg::Deadline deadline);
  bool definition_is_stale() const;
  std::string question_of_rights(pg::Deadline deadline);
  void learn_definition(pg::Deadline deadline);
  [[noreturn]] void explain_missing_table(pg::Deadline deadline);
  std::optional<Reckoned> read(pg::Deadline deadline);
  std::string why_rows_stay_unread(Reading& reading, pg::Deadline deadline);
  std::string foreign_code(const Reading& reading, pg::Deadline deadline);
  bool is_as_prepared(pg::Deadline deadline);
  bool is_still_harmless(pg::Deadline deadline);
  bool read_answers(const Reading& asked, Measurement& measurement, pg::Deadline deadline);
  void ask_after_failure(const Reading& asked, Measurement& measurement, pg::Deadline deadline);
  void use_last_sizes(Measurement& measurement) const;
  Known<double> read_database_size(pg::Deadline deadline);
  void learn_from(const Reckoned& reckoned, bool with_statistics);
  Reading make_reading(pg::Deadline deadline) const;
  bool asks_statistics_function() const;
  std::string statistics_source() const;
  int calibration_limit() const;
  double changes_to_bear() const;
  bool calibration_has_aged(const Measurement& measurement) const;
  void calibrate_by(Measurement& measurement);

  pg::Connector connector_;
  std::optional<pg::Connection> connection_;
  PreparedStatements prepared_;          ///< over that connection
  std::optional<bool> backend_is_ours_;  ///< its backend; once that was asked
  TableName table_;
  Counting counting_;

  std::optional<Definition> definition_;    ///< as learned over this connection
  std::optional<std::string> search_path_;  ///< the connection's, before code of others ran
  Clock::time_point definition_learned_{};
  Clock::time_point reading_began_{};
  std::optional<double> definition_analyzed_;  ///< the last ANALYZE as of then
  bool analyzed_since_ = false;
  bool statistics_are_due_ = true;
  bool statistics_function_failed_ = false;  ///< then it isn't asked again over this connection
  bool calibration_is_due_ = false;
  struct {
    std::optional<double> vacuum;  ///< the last one, as of then
    double changed = 0;            ///< since the last ANALYZE, as of then
  } calibrated_;
  bool sample_is_due_ = false;  ///< what was seen contradicts the statistics

  std::optional<double> last_live_, last_expired_;
  std::optional<Measurement> last_;  ///< the last one with exact sizes
  bool went_through_ = false;        ///< the last one has them

  bool database_size_is_coming_ = false;
  Clock::time_point database_size_awaited_{}, database_size_due_{};
  Known<double> database_bytes_ = Unknown{"not asked for"};
};

}  // namespace django_session::sessions
