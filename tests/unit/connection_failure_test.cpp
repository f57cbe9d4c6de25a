// What the page says when there is no connection.
#include "connection_failure.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

nagios::ConnectionFailure failure(const char* message, const char* sqlstate = "",
                                  const char* function = "",
                                  const pg::Parameters& parameters = {}) {
  pg::Error error(pg::Error::Kind::connection, message, sqlstate);
  error.refuse_login({.role = "watcher", .database = "", .function = function});
  return nagios::explain_connection(error, parameters);
}

pg::Parameters at_host(const char* host, const char* port = "") {
  pg::Parameters parameters;
  parameters.host = host;
  parameters.port = port;
  return parameters;
}

std::string all(const nagios::ConnectionFailure& failure) {
  std::string text;
  for (const std::string& line : failure.next) text += line + "\n";
  return text;
}

}  // namespace

TEST_GROUP(ConnectionFailure){};

TEST(ConnectionFailure, has_the_reason_first_and_then_the_place) {
  pg::Parameters parameters;
  parameters.dbname = "site";
  parameters.user = "watcher";
  const auto refused = failure(
      "connection to server at \"db1\" (10.0.0.1), port 5433 failed: FATAL:  password "
      "authentication failed for user \"watcher\"",
      "28P01", "auth_failed", parameters);
  STRCMP_EQUAL("password authentication failed for user \"watcher\" (db1:5433, database site)",
               refused.reason.c_str());
  STRCMP_CONTAINS("\n  db1:5433:site:watcher:PASSWORD\n", all(refused).c_str());
}

TEST(ConnectionFailure, over_a_socket_names_its_folder) {
  const auto nobody = failure(
      "connection to server on socket \"/run/pg/.s.PGSQL.5432\" failed: No such file or directory "
      "Is the server running locally and accepting connections on that socket?");
  STRCMP_EQUAL("No such file or directory (/run/pg, port 5432)", nobody.reason.c_str());
  STRCMP_CONTAINS("\n  pg_isready -h /run/pg -p 5432\n", all(nobody).c_str());
}

TEST(ConnectionFailure, of_several_hosts_names_the_last) {
  const auto both = failure(
      "connection to server at \"a\", port 1 failed: Connection refused Is the server running on "
      "that host and accepting TCP/IP connections? connection to server at \"b\", port 2 failed: "
      "Connection refused");
  STRCMP_EQUAL("Connection refused (b:2)", both.reason.c_str());
}

TEST(ConnectionFailure, each_kind_has_its_next_step) {
  const char* at = "connection to server at \"db1\", port 5432 failed: FATAL:  words";
  STRCMP_CONTAINS("(ident, LDAP", all(failure(at, "28000", "auth_failed")).c_str());
  STRCMP_CONTAINS("pg_hba.conf", all(failure(at, "28000", "ClientAuthentication")).c_str());
  STRCMP_CONTAINS("roles.sql", all(failure(at, "28000", "InitializeSessionUserId")).c_str());
  STRCMP_CONTAINS("psql -p 5432 -l", all(failure(at, "3D000", "InitPostgres")).c_str());
  STRCMP_CONTAINS("pg_stat_activity", all(failure(at, "53300", "InitProcess")).c_str());
  STRCMP_CONTAINS("wait for it", all(failure(at, "57P03", "ProcessStartupPacket")).c_str());
  STRCMP_CONTAINS("sslmode", all(failure("connection to server at \"db1\", port 5432 failed: "
                                         "server does not support SSL, but SSL was required"))
                                 .c_str());
  STRCMP_CONTAINS("getent hosts db1",
                  all(failure("could not translate host name \"db1\" to address: Name or service "
                              "not known",
                              "", "", at_host("db1")))
                      .c_str());
  STRCMP_CONTAINS(":PASSWORD",
                  all(failure("connection to server at \"db1\", port 5432 failed: fe_sendauth: no "
                              "password supplied"))
                      .c_str());
}

TEST(ConnectionFailure, a_limit_of_the_role_or_the_database_can_be_taken_away) {
  pg::Parameters parameters;
  parameters.dbname = "my site";
  const char* at = "connection to server at \"db1\", port 5432 failed: FATAL:  words";
  STRCMP_CONTAINS("ALTER ROLE watcher CONNECTION LIMIT -1",
                  all(failure(at, "53300", "InitializeSessionUserId", parameters)).c_str());
  STRCMP_CONTAINS("ALTER DATABASE \"my site\" CONNECTION LIMIT -1",
                  all(failure(at, "53300", "CheckMyDatabase", parameters)).c_str());
  STRCMP_CONTAINS("Next: the server has no connection left",
                  all(failure(at, "53300", "InitProcess", parameters)).c_str());
  CHECK(all(failure(at, "53300", "InitProcess", parameters)).find("ALTER") == std::string::npos);
}

TEST(ConnectionFailure, tells_a_poolers_words_from_postgresqls) {
  const char* at = "connection to server at \"db1\", port 6432 failed: FATAL:  no such user";
  STRCMP_CONTAINS("PgBouncer", all(failure(at, "08P01")).c_str());
  CHECK(failure(at, "55000", "another").next.empty());
}

TEST(ConnectionFailure, over_a_socket_its_folder_is_in_the_commands) {
  const char* at = "connection to server on socket \"/run/pg/.s.PGSQL.5433\" failed: FATAL:  words";
  STRCMP_CONTAINS("psql -h /run/pg -p 5433 -l", all(failure(at, "3D000")).c_str());
  STRCMP_CONTAINS("pg_ident.conf", all(failure(at, "28000", "auth_failed")).c_str());
  STRCMP_CONTAINS("  local  \"DATABASE\"  watcher  peer map=django_session\n",
                  all(failure(at, "28000", "ClientAuthentication")).c_str());
}

TEST(ConnectionFailure, of_a_time_limit_asks_the_host_that_it_met) {
  STRCMP_CONTAINS("pg_isready -h db2 ", all(failure("timed out while connecting to db2")).c_str());
}

TEST(ConnectionFailure, of_a_time_limit_asks_where_the_connection_string_leads) {
  pg::Parameters parameters;
  parameters.dbname = "host=db2 port=5433 dbname=site";
  const char* timeout = "timed out while connecting to db2";
  STRCMP_CONTAINS("pg_isready -h db2 -p 5433\n", all(failure(timeout, "", "", parameters)).c_str());
  parameters.dbname = "postgresql:///site?host=/run/two&port=5434";
  const pg::Error slow(pg::Error::Kind::statement, "canceling statement", "57014");
  STRCMP_CONTAINS("psql -h /run/two -p 5434 ",
                  nagios::look_at_slow_server(slow, parameters)[1].c_str());
}

TEST(ConnectionFailure, of_several_ports_none_is_guessed) {
  const auto parameters = at_host("db1,db2", "5432,5433");
  STRCMP_CONTAINS("pg_isready -h db2 -p PORT\n",
                  all(failure("timed out while connecting to db2", "", "", parameters)).c_str());
}

TEST(ConnectionFailure, of_a_name_service_that_hangs_is_not_the_servers) {
  const auto stuck = failure("timed out while looking up the server's name or credentials");
  CHECK(stuck.section == RunbookSection::no_host);
  STRCMP_CONTAINS("getent hosts ", all(stuck).c_str());
}

TEST(ConnectionFailure, the_line_of_a_password_file_is_as_libpq_looks_for_it) {
  const char* at =
      "connection to server on socket \"/var/run/postgresql/.s.PGSQL.5432\" failed: FATAL:  words";
  STRCMP_CONTAINS("\n  *:5432:", all(failure(at, "28P01")).c_str());
  const char* v6 = "connection to server at \"::1\", port 5432 failed: FATAL:  words";
  STRCMP_CONTAINS("\n  \\:\\:1:5432:", all(failure(v6, "28P01")).c_str());
}

TEST(ConnectionFailure, of_a_service_that_is_not_there_names_the_file) {
  STRCMP_CONTAINS("service file",
                  all(failure("definition of service \"nosuch\" not found")).c_str());
}

TEST(ConnectionFailure, names_its_section_of_the_runbook) {
  CHECK(failure("words", "28P01").section == RunbookSection::password);
  CHECK(failure("words", "28000", "auth_failed").section == RunbookSection::peer);
  CHECK(failure("words", "55000").section == RunbookSection::other_login);
  CHECK(failure("timed out while connecting to db2").section == RunbookSection::no_answer);
}

TEST(ConnectionFailure, of_a_closed_database_opens_it) {
  pg::Parameters parameters;
  parameters.dbname = "site";
  const auto closed = failure("words", "55000", "CheckMyDatabase", parameters);
  STRCMP_CONTAINS("ALTER DATABASE site ALLOW_CONNECTIONS true", all(closed).c_str());
}

TEST(ConnectionFailure, words_of_others_are_left_as_they_are) {
  const auto other = failure("out of memory", "", "", at_host("db1", "5432"));
  STRCMP_EQUAL("out of memory (db1:5432)", other.reason.c_str());
}
