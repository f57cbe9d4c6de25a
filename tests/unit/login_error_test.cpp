// libpq's verbose words at a login, as real servers cause them.
#include "pg/login_error.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session::pg;

TEST_GROUP(LoginError){};

TEST(LoginError, tells_what_the_server_said_from_where_it_said_it) {
  const LoginError error = read_login_error(
      "connection to server at \"db1\", port 5432 failed: FATAL:  42501: keine Berechtigung\n"
      "DETAIL:  Benutzer hat kein CONNECT-Recht.\nLOCATION:  CheckMyDatabase, postinit.c:355\n");
  STRCMP_EQUAL(
      "connection to server at \"db1\", port 5432 failed: FATAL:  keine Berechtigung\n"
      "DETAIL:  Benutzer hat kein CONNECT-Recht.\n",
      error.message.c_str());
  STRCMP_EQUAL("42501", error.sqlstate.c_str());
  STRCMP_EQUAL("CheckMyDatabase", error.function.c_str());
  CHECK(error.misses_connect());
}

TEST(LoginError, of_several_hosts_the_last_counts) {
  const LoginError error = read_login_error(
      "connection to server at \"a\" failed: FATAL:  42501: no\nLOCATION:  CheckMyDatabase, p.c:1\n"
      "connection to server at \"b\" failed: FATAL:  57P03: starting\n");
  STRCMP_EQUAL("57P03", error.sqlstate.c_str());
  CHECK(!error.misses_connect());
}

TEST(LoginError, leaves_the_words_of_libpq_alone) {
  for (const char* text :
       {"could not translate host name \"x:  y: z\"\n", "timeout expired\n", ""}) {
    const LoginError error = read_login_error(text);
    STRCMP_EQUAL(text, error.message.c_str());
    STRCMP_EQUAL("", error.sqlstate.c_str());
  }
}
