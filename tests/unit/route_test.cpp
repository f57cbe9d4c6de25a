// The commands that we print reach the database that was measured.
#include "core/route.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

TEST_GROUP(PrintedCommand){};

TEST(PrintedCommand, has_host_port_database_and_role) {
  const Route route{.database = "site", .host = "db1", .port = "5433", .user = "django"};
  STRCMP_EQUAL("psql -h db1 -p 5433 -d site -U django -c 'ANALYZE x'",
               psql_statement(route, "ANALYZE x").c_str());
  STRCMP_EQUAL("django_session_cleanup -H db1 -p 5433 -d site -U django --dry-run",
               cleanup_command(route, "--dry-run").c_str());
}

TEST(PrintedCommand, looks_up_names_where_none_but_the_system_puts_them) {
  const Route route{.database = "site"};
  STRCMP_EQUAL(
      "psql -d site -c 'SET LOCAL search_path = pg_catalog; SELECT count(*) FROM pg_locks'",
      psql_statement(route, "SELECT count(*) FROM pg_locks").c_str());
  STRCMP_EQUAL("psql -d site -c 'SELECT pg_catalog.pg_reload_conf()'",
               psql_statement(route, "SELECT pg_catalog.pg_reload_conf()").c_str());
}

TEST(PrintedCommand, over_a_socket_is_that_of_the_servers_administrator) {
  const Route route{
      .database = "site", .host = "/var/run/postgresql", .port = "5432", .as_postgres = true};
  STRCMP_EQUAL("sudo -u postgres psql -h /var/run/postgresql -p 5432 -d site -v a=b -f roles.sql",
               psql_command(route, "-v a=b -f roles.sql").c_str());
}

TEST(PrintedCommand, that_reads_the_table_is_typed_as_the_user_of_the_check) {
  const Route route{.database = "site", .user = "watcher", .system_user = "nagios"};
  STRCMP_EQUAL("sudo -u nagios psql -d site -U watcher -c 'SHOW x'",
               psql_statement(route, "SHOW x").c_str());
}

TEST(PrintedCommand, a_database_that_looks_like_a_connection_string_is_one_name) {
  STRCMP_EQUAL(R"(django_session_cleanup -d 'dbname='\''a=b'\''' -x)",
               cleanup_command({.database = "a=b"}, "-x").c_str());
}

TEST(PrintedCommand, words_survive_the_shell) {
  STRCMP_EQUAL("plain-1.x", shell_word("plain-1.x").c_str());
  STRCMP_EQUAL("'-x'", shell_word("-x").c_str());
  STRCMP_EQUAL("''", shell_word("").c_str());
  STRCMP_EQUAL(R"('it'\''s $HOME')", shell_word("it's $HOME").c_str());
  STRCMP_EQUAL(R"($'a\174\047')", shell_word("a|'").c_str());
}
