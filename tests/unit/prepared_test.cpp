// Which statements are sent as they are, and which as EXECUTE.
#include "measure/prepared.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::sessions;

namespace {

const std::string kOne = "SELECT 1;\n", kTwo = "SELECT 2;\n";

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

pg::Row prepared_at(const char* time) {
  pg::Row row;
  row.set("time", time);
  return row;
}

pg::Error failure(const char* sqlstate) { return {pg::Error::Kind::statement, "", sqlstate}; }

}  // namespace

TEST_GROUP(PreparedStatements) {
  PreparedStatements prepared;

  void setup() override { prepared.begin(); }

  void ask_often(const std::string& select) {
    for (int i = 0; i < 3; ++i) prepared.execute(select);
  }
};

TEST(PreparedStatements, are_those_that_are_asked_again) {
  STRCMP_EQUAL(kOne.c_str(), prepared.execute(kOne).c_str());
  STRCMP_EQUAL("", prepared.preparation().c_str());
  ask_often(kTwo);
  const std::string preparation = prepared.preparation();
  CHECK_TRUE(contains(preparation, "PREPARE djs_1 AS SELECT 2;"));
  CHECK_FALSE(contains(preparation, "SELECT 1;"));
}

TEST(PreparedStatements, are_executed_once_it_is_known_since_when_they_are) {
  ask_often(kOne);
  prepared.preparation();
  STRCMP_EQUAL(kOne.c_str(), prepared.execute(kOne).c_str());  // it failed
  CHECK_TRUE(contains(prepared.preparation(), "PREPARE djs_2 AS"));
  prepared.prepared(prepared_at("2026-01-02 03:04:05.678901+00"));
  STRCMP_EQUAL("EXECUTE djs_2;\n", prepared.execute(kOne).c_str());
  STRCMP_EQUAL("", prepared.preparation().c_str());
}

TEST(PreparedStatements, are_verified_in_each_message_that_executes_them) {
  STRCMP_EQUAL("", prepared.verification().c_str());
  CHECK_FALSE(prepared.verifies());
  ask_often(kOne);
  prepared.preparation();
  prepared.prepared(prepared_at("2026-01-02 03:04:05.678901+00"));
  prepared.execute(kOne);
  CHECK_TRUE(
      contains(prepared.verification(), "('djs_1', '2026-01-02 03:04:05.678901+00'::timestamptz)"));
  CHECK_TRUE(prepared.verifies());
  STRCMP_EQUAL("", prepared.verification().c_str());
}

TEST(PreparedStatements, are_gone_with_their_connection) {
  ask_often(kOne);
  prepared.preparation();
  prepared.prepared(prepared_at("2026-01-02 03:04:05+00"));
  prepared.begin();
  STRCMP_EQUAL(kOne.c_str(), prepared.execute(kOne).c_str());
}

TEST(PreparedStatements, are_given_up_where_they_fail_themselves) {
  CHECK_FALSE(prepared.give_up(failure("55P03")));  // a lock
  for (const char* sqlstate : {"26000", "42P05", "0A000"}) {
    prepared.begin();
    ask_often(kOne);
    prepared.preparation();
    prepared.prepared(prepared_at("2026-01-02 03:04:05+00"));
    CHECK_TRUE(prepared.give_up(failure(sqlstate)));
    STRCMP_EQUAL(kOne.c_str(), prepared.execute(kOne).c_str());
    CHECK_FALSE(prepared.give_up(failure(sqlstate)));  // it wasn't that
  }
}

TEST(PreparedStatements, do_not_become_more_and_more) {
  for (int i = 0; i < 1000; ++i) ask_often("SELECT " + std::to_string(i) + ";\n");
  const std::string preparation = prepared.preparation();
  CHECK_TRUE(contains(preparation, "PREPARE djs_10 AS"));
  CHECK_FALSE(contains(preparation, "PREPARE djs_100 AS"));
}
