// When the log tells of failed readings, with a made-up clock, and which messages have one cause.
#include "plugin/outage_log.hpp"

#include <string>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

TEST_GROUP(OutageLog) {
  OutageLog log;
  OutageLog::Time now{1000h};

  std::string next(const std::string& trouble) {
    now += 1s;
    const auto line = log.next(cause_of(trouble), trouble, now);
    return line ? (line->is_error ? "error " : "notice ") + line->text : "";
  }

  /// How many lines an hour of readings each 10 s costs, whose troubles take turns.
  int lines_of_an_hour(const std::vector<std::string>& troubles) {
    int lines = 0;
    for (std::size_t i = 0; i < 360; ++i) {
      now += 9s;
      if (!next(troubles[i % troubles.size()]).empty()) ++lines;
    }
    return lines;
  }
};

TEST(OutageLog, has_nothing_to_say_while_all_is_well) { STRCMP_EQUAL("", next("").c_str()); }

TEST(OutageLog, tells_once_of_the_beginning_and_of_the_end) {
  STRCMP_EQUAL("error refused", next("refused").c_str());
  STRCMP_EQUAL("", next("refused").c_str());
  STRCMP_EQUAL("notice readings have resumed", next("").c_str());
  STRCMP_EQUAL("", next("").c_str());
}

TEST(OutageLog, tells_at_once_of_another_cause) {
  next("refused");
  STRCMP_EQUAL("error role a does not exist", next("role a does not exist").c_str());
  STRCMP_EQUAL("", next("role a does not exist").c_str());
  STRCMP_EQUAL("error refused", next("refused").c_str());
  STRCMP_EQUAL("notice readings have resumed", next("").c_str());
}

TEST(OutageLog, does_not_tell_of_other_numbers) {
  STRCMP_EQUAL("error killed by pid 12", next("killed by pid 12").c_str());
  STRCMP_EQUAL("", next("killed by pid 4711").c_str());
}

TEST(OutageLog, costs_a_line_a_minute_whatever_comes_and_goes) {
  CHECK_COMPARE(lines_of_an_hour({"one", "two"}), <=, 66);
  CHECK_COMPARE(lines_of_an_hour({"one", ""}), <=, 66);
  CHECK_COMPARE(lines_of_an_hour({"one", "two", "three", "four", ""}), <=, 66);
}

TEST(OutageLog, ends_with_what_lasts) {
  lines_of_an_hour({"one", ""});
  next("one");
  std::string last;
  for (int i = 0; i < 130; ++i) {
    const std::string line = next("two");
    if (!line.empty()) last = line;
  }
  STRCMP_EQUAL("error two", last.c_str());
}

TEST(OutageLog, has_several_lines_again_after_a_while) {
  lines_of_an_hour({"one", ""});
  now += 10min;
  next("");
  STRCMP_EQUAL("error one", next("one").c_str());
  STRCMP_EQUAL("error two", next("two").c_str());
  STRCMP_EQUAL("notice readings have resumed", next("").c_str());
}

TEST_GROUP(CauseOf){static void same(const std::string& one, const std::string& other){
    STRCMP_EQUAL(cause_of(one).c_str(), cause_of(other).c_str());
}
static void different(const std::string& one, const std::string& other) {
  CHECK_TRUE(cause_of(one) != cause_of(other));
}
}
;

TEST(CauseOf, leaves_numbers_alone) {
  same("connection to server at \"10.0.0.1\", port 5432 failed: Connection refused",
       "connection to server at \"10.0.12.117\", port 5433 failed: Connection refused");
  same("timed out after 5.01 s", "timed out after 4.9 s");
  same("timed out after 5 s", "timed out after 4.9 s");
}

TEST(CauseOf, takes_hosts_in_any_order) {
  same("connection to server at \"a\" failed: refused connection to server at \"b\" failed: gone",
       "connection to server at \"b\" failed: gone connection to server at \"a\" failed: refused");
}

TEST(CauseOf, tells_reasons_apart) {
  different("connection to server at \"a\" failed: Connection refused",
            "connection to server at \"a\" failed: FATAL: role \"b\" does not exist");
  different("role \"a\" does not exist", "database \"a\" does not exist");
  different("refused", "");
}
