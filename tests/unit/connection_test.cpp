// What needs no server: how libpq's words are shown.
#include "pg/connection.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace std::chrono_literals;

TEST_GROUP(Connector){};

TEST(Connector, shows_libpqs_words_on_one_line_and_without_control_characters) {
  pg::Parameters parameters;
  parameters.host = "/nowhere\r\n\t\x1b[31m";
  try {
    pg::Connector(parameters).connect(pg::Deadline::after(5s));
    FAIL("connected to nowhere");
  } catch (const pg::Error& error) {
    STRCMP_CONTAINS("/nowhere    [31m/", error.what());
    STRCMP_CONTAINS("No such file or directory", error.what());
  }
}
