// A connection to PostgreSQL whose every step has a deadline. The only users of libpq are here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pg/bounded_call.hpp"
#include "pg/deadline.hpp"
#include "pg/error.hpp"
#include "pg/rows.hpp"

struct pg_conn;
struct pg_result;

namespace django_session::pg {

/// libpq's connection keywords. Whatever is empty is left to libpq: environment, service file,
/// password file, defaults.
struct Parameters {
  std::string dbname;  ///< a name, a conninfo string or a URI
  std::string host, port, user, password, sslmode, service, passfile;
};

/// For a `dbname` from a command line: throws ConfigError if it holds a password, or looks like a
/// connection string or URI and can't be read as one. The message never repeats the text.
void refuse_password_in(const std::string& dbname);

/// For a `dbname` from a file that may hold passwords: throws ConfigError if one may be where libpq
/// or the server would repeat it, as in the name of a user.
void refuse_misplaced_password_in(const std::string& dbname);

/// The database's name, fit to be shown: `dbname` itself, or what the connection string or URI in
/// it says; "" where that says nothing. Throws ConfigError, without the text, if it can't be read.
std::string database_name(const std::string& dbname);

/// What the connection string or URI in `dbname` says of `keyword`; "" for a plain name. The same.
std::string keyword_of(const std::string& dbname, const char* keyword);

/// The connection string or URI in `dbname`, with no other keywords than `keep` is true for; a
/// plain name as it is. May hold a password, as `dbname` may. Throws ConfigError, without the text,
/// if it can't be read.
std::string with_keywords(const std::string& dbname,
                          const std::function<bool(std::string_view keyword)>& keep);

struct CloseConnection {
  void operator()(pg_conn* connection) const;
};
using ConnectionHandle = std::unique_ptr<pg_conn, CloseConnection>;

struct ClearResult {
  void operator()(pg_result* result) const;
};
using ResultHandle = std::unique_ptr<pg_result, ClearResult>;

/// The server that answers: of several hosts, the one that took the connection.
struct Address {
  std::string host, port;  ///< a name, an address, or the folder of a Unix socket

  /// Over a Unix socket: what answers is on this machine.
  bool is_local() const { return host.starts_with('/') || host.starts_with('@'); }
};

/// What a message was answered.
struct Answer {
  Rows rows;  ///< of all its statements, in their order, up to the one that was refused
  std::optional<Error> refusal;  ///< of Kind::statement; what came after it was not run
};

/// An open connection. Not thread-safe. After a timeout it is closed: with no cancel request to
/// wait for; every statement we send carries a statement_timeout, so the server ends it by itself.
///
/// It can't be left in the middle of an answer: run() reads to the end, and send() first passes
/// over what the message before it still has to say.
class Connection {
 public:
  Connection(ConnectionHandle handle, std::shared_ptr<const Parameters> parameters);

  bool usable() const { return handle_ != nullptr; }

  /// Sends one simple-protocol message, of one or several statements (one round trip), and reads
  /// the answer to its end: a COMMIT that fails isn't taken for one that was done. All rows of all
  /// its statements. Throws Error; after one of Kind::statement the rest of the message was not
  /// run, the transaction that it was in is rolled back, and the connection is ready.
  Rows run(const std::string& message, Deadline deadline);

  /// The same where a refusal is nothing special, or what came before it matters. Throws Error of
  /// the other kinds.
  Answer try_run(const std::string& message, Deadline deadline);
  /// The same of what was sent before, from where it has been read to.
  Answer rest_of_answer(Deadline deadline);

  /// Sends a message whose answer is read bit by bit, or waited for in slices: with next_rows().
  void send(const std::string& message, Deadline deadline);

  /// The next statement's rows of the message sent; statements without rows (SET, COMMIT) are
  /// passed over; nothing at the end. Throws Error, as run() does.
  std::optional<Rows> next_rows(Deadline deadline);

  /// Waits until next_rows() needn't, at most until the deadline. False: not yet, and the connection
  /// stays as it is. For statements that take long: look about between two waits.
  bool answered_by(Deadline deadline);

  /// Has the server cancel the statement that is running, and passes over its answer (an error, or
  /// its success, if that was sooner). Throws Error of Kind::timeout where none comes.
  void cancel(Deadline deadline);

  /// Whether the server still takes connections, or refuses them: false if nothing is heard of it
  /// by the deadline. To tell a statement that takes long from a server that hangs. Behind a pooler
  /// it is the pooler that answers.
  bool server_answers(Deadline deadline) const;

  /// A second connection to the same server, as the same role; nothing if it doesn't come about.
  std::optional<Connection> another(Deadline deadline) const;

  /// How the names of the functions begin that this session makes: what they say is repeated.
  void set_own_functions(const std::string& beginning);

  /// The server's warnings since the last call: primary messages only.
  std::vector<std::string> take_warnings();

  /// What RAISE INFO has said since the last call, or since the last message was sent.
  std::vector<std::string> take_infos();

  /// Process id of the backend as of login. Behind a pooler it isn't the pg_backend_pid() of the
  /// backend that runs our statements.
  int backend_pid() const;

  /// Is a pooler in between? Its clients share backends, so that SET would reach other clients'
  /// statements and miss ours.
  bool is_pooled(Deadline deadline);

  Address address() const;

  /// As SQL text. Throws Error for text that isn't valid in the connection's encoding.
  std::string literal(std::string_view text) const;
  std::string identifier(std::string_view name) const;

  void close();

 private:
  void start(const std::string& message, Deadline deadline);
  std::optional<Rows> receive(Deadline deadline);
  ResultHandle next_result(Deadline deadline);
  void pass_over_the_rest(Deadline deadline);
  void roll_back_if_failed(Deadline deadline);
  void wait_for(short events, Deadline deadline);
  void consume();
  void end_at(Deadline deadline);
  [[noreturn]] void lose_by_time();
  void drain(Deadline deadline);
  [[noreturn]] void lose(Error::Kind kind, const std::string& message);

  std::shared_ptr<const Parameters> parameters_;
  struct Notices {
    std::vector<std::string> warnings, infos;
    std::string own_functions;
  };
  static void keep_notice(void* notices, const pg_result* notice);

  std::unique_ptr<Notices> notices_;  // libpq holds its address
  ConnectionHandle handle_;
  ResultHandle arrived_;  ///< what answered_by() has found, and next_rows() hasn't taken yet
};

/// Connects. libpq's name lookup, LDAP, Kerberos and files can't be bounded from inside, so
/// connecting runs in a thread of its own (see BoundedCall). One that is still stuck when its
/// deadline passes is not joined by a second: the next connect() first waits for it to end.
class Connector {
 public:
  explicit Connector(Parameters parameters)
      : parameters_(std::make_shared<Parameters>(std::move(parameters))) {}

  /// Throws Error: Kind::connection with libpq's or the server's words, or Kind::timeout.
  /// The connection's encoding is UTF-8, whatever environment and connection string say. Where the
  /// server has no conversion (SQL_ASCII, MULE_INTERNAL), names and messages come as they are
  /// stored, and may be anything but UTF-8.
  Connection connect(Deadline deadline);

  /// From the next connect() on no conversion is asked for: some name in the database has a
  /// character that UTF-8 lacks.
  void take_bytes_as_they_are() { encoding_ = Encoding::as_stored; }

 private:
  enum class Encoding { utf8, as_stored };
  struct Outcome {
    ConnectionHandle handle;
    std::string error{};  ///< empty when connected
    bool timed_out = false;
    std::string sqlstate{};
    Error::Login login{};
    bool no_conversion = false;  ///< try again with Encoding::as_stored
  };
  static Outcome attempt(const Parameters& parameters, Encoding encoding, Deadline deadline);
  static Outcome attempt_once(const Parameters& parameters, Encoding encoding, Deadline deadline);
  static Outcome connected(ConnectionHandle handle, Encoding encoding);
  static Outcome refused(pg_conn* connection);
  void start_attempt(Deadline deadline);

  std::shared_ptr<const Parameters> parameters_;
  Encoding encoding_ = Encoding::utf8;
  std::optional<BoundedCall<Outcome>> stuck_;
};

}  // namespace django_session::pg
