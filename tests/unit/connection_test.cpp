// What needs no server: connection strings, and how libpq's words are shown.
#include "pg/connection.hpp"

#include <string>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace std::chrono_literals;

TEST_GROUP(WithKeywords){static std::string without_password(const std::string& dbname){
    return pg::with_keywords(dbname,
                             [](std::string_view keyword) { return keyword != "password"; });
}
}
;

TEST(WithKeywords, leaves_a_plain_name_as_it_is) {
  STRCMP_EQUAL("my site", without_password("my site").c_str());
}

TEST(WithKeywords, reads_strings_and_uris) {
  STRCMP_EQUAL("dbname='site' host='db1'",
               without_password("host=db1 password=secret dbname=site").c_str());
  STRCMP_EQUAL("user='me' dbname='site' host='db1' port='6432' sslmode='require'",
               without_password("postgresql://me:secret@db1:6432/site?sslmode=require").c_str());
  STRCMP_EQUAL("", without_password("password=secret").c_str());
}

TEST(WithKeywords, writes_what_reads_back_as_the_same) {
  const std::string odd = R"(dbname='o\'dd\\ = site' user=x)";
  STRCMP_EQUAL(R"(o'dd\ = site)", pg::database_name(odd).c_str());
  STRCMP_EQUAL(R"(o'dd\ = site)", pg::database_name(without_password(odd)).c_str());
}

TEST(WithKeywords, refuses_what_it_cannot_read_without_repeating_it) {
  const std::string why = refusal([] { without_password("password=secret host"); });
  STRCMP_CONTAINS("not a valid connection string", why.c_str());
  CHECK_TRUE(why.find("secret") == std::string::npos);
}

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
