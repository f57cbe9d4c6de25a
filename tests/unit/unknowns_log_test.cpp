// When the log tells of unknown values, with a made-up clock.
#include "plugin/unknowns_log.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

TEST_GROUP(UnknownsLog) {
  UnknownsLog log;
  UnknownsLog::Time now{1000h};

  std::string next(const std::string& reasons) {
    now += 10s;
    const auto line = log.next(reasons, now);
    return line ? (line->is_warning ? "warning " : "notice ") + line->text : "";
  }
};

TEST(UnknownsLog, has_nothing_to_say_while_all_is_known) { STRCMP_EQUAL("", next("").c_str()); }

TEST(UnknownsLog, tells_once_of_the_beginning_and_of_the_end) {
  STRCMP_EQUAL("warning some values are unknown: no statistics", next("no statistics").c_str());
  STRCMP_EQUAL("", next("no statistics").c_str());
  STRCMP_EQUAL("notice all values are known again", next("").c_str());
  STRCMP_EQUAL("", next("").c_str());
}

TEST(UnknownsLog, tells_of_other_reasons) {
  next("no statistics");
  STRCMP_EQUAL("warning some values are unknown: no right; no statistics",
               next("no right; no statistics").c_str());
}

TEST(UnknownsLog, takes_reasons_with_other_numbers_for_the_same) {
  const auto counters = [](int live, int dead, double ratio) {
    return "the server's counters (" + std::to_string(live) + " live rows, " +
           std::to_string(dead) + " dead) don't fit the 91000 rows of ANALYZE (" +
           std::to_string(ratio) + "); no statistics";
  };
  next(counters(69500, 21500, 1.3));
  STRCMP_EQUAL("", next(counters(69000, 22000, 2)).c_str());
  STRCMP_EQUAL("", next(counters(5, 0, 0.25)).c_str());
  STRCMP_EQUAL("notice all values are known again", next("").c_str());
}

TEST(UnknownsLog, does_not_repeat_itself_within_an_hour_of_flapping) {
  next("no statistics");
  next("");
  for (int i = 0; i < 100; ++i) {
    STRCMP_EQUAL("", next("no statistics").c_str());
    STRCMP_EQUAL("", next("").c_str());
  }
}

TEST(UnknownsLog, tells_after_an_hour_what_is_unknown_again) {
  next("no statistics");
  next("");
  STRCMP_EQUAL("", next("no statistics").c_str());
  now += 1h;
  STRCMP_EQUAL("warning some values are unknown: no statistics", next("no statistics").c_str());
  STRCMP_EQUAL("notice all values are known again", next("").c_str());
}
