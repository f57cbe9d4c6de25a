// What each step of a cleanup took.
#include "cleanup/step_times.hpp"

#include <CppUTest/TestHarness.h>

using django_session::sessions::StepTimes;

TEST_GROUP(StepTimes) {
  StepTimes times;
  const StepTimes::Moment start{};

  static std::chrono::milliseconds ms(int count) { return std::chrono::milliseconds(count); }
};

TEST(StepTimes, are_empty_before_the_first_step) { STRCMP_EQUAL("", times.text(start).c_str()); }

TEST(StepTimes, count_a_step_that_comes_again_as_one_and_the_running_one_up_to_now) {
  times.begin("catching up", start);
  times.begin("catching up", start + ms(700));
  times.begin("vacuuming", start + ms(1000));
  times.begin("catching up", start + ms(3500));
  STRCMP_EQUAL("catching up 1.2 s, vacuuming 2.5 s", times.text(start + ms(3700)).c_str());
}
