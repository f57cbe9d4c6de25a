// The wording for text that can't be read.
#include "core/config_error.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

std::string message(std::string_view text, std::size_t position) {
  return unreadable(text, position, "a range", "it is wrong", "1:10").what();
}

}  // namespace

TEST_GROUP(ConfigError){};

TEST(ConfigError, shows_text_place_reason_and_example) {
  STRCMP_EQUAL("cannot read \"1-10\" as a range at \"-10\": it is wrong, for example 1:10",
               message("1-10", 1).c_str());
}

TEST(ConfigError, names_no_place_at_the_beginning) {
  STRCMP_EQUAL("cannot read \"foo\" as a range: it is wrong, for example 1:10",
               message("foo", 0).c_str());
}

TEST(ConfigError, knows_the_end_as_a_place) {
  STRCMP_EQUAL("cannot read \"10:x\" as a range at its end: it is wrong, for example 1:10",
               message("10:x", 4).c_str());
  STRCMP_EQUAL("cannot read \"x\" as a range at its end: it is wrong, for example 1:10",
               message("x", 99).c_str());
}

TEST(ConfigError, shows_the_empty_text) {
  STRCMP_EQUAL("cannot read \"\" as a range: it is wrong, for example 1:10",
               message("", 0).c_str());
}

TEST(ConfigError, shows_control_characters_as_question_marks) {
  STRCMP_EQUAL("cannot read \"1?2?3\" as a range at \"?3\": it is wrong, for example 1:10",
               message("1\n2\x1b"
                       "3",
                       3)
                   .c_str());
}

TEST(ConfigError, shows_sixty_bytes_whole_and_shortens_more) {
  const std::string sixty(60, 'x');
  STRCMP_CONTAINS(("\"" + sixty + "\"").c_str(), message(sixty, 0).c_str());
  STRCMP_CONTAINS(("\"" + std::string(57, 'x') + "...\"").c_str(), message(sixty + "x", 0).c_str());
}

TEST(ConfigError, shortens_between_characters) {
  const std::string text = std::string(56, 'x') + "\xc3\xa9" + std::string(10, 'y');
  STRCMP_CONTAINS(("\"" + std::string(56, 'x') + "...\"").c_str(), message(text, 0).c_str());
}

TEST(ConfigError, shows_the_place_in_a_long_text) {
  STRCMP_CONTAINS(" at \"-end\"", message(std::string(100, 'x') + "-end", 100).c_str());
}
