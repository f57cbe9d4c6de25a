// Control characters and what is none.
#include "core/printable.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

TEST_GROUP(Printable){};

TEST(Printable, replaces_every_ascii_control_character) {
  for (char c = 0; c < 0x20; ++c) {
    const char text[] = {'a', c, 'b'};
    STRCMP_EQUAL("a_b", without_controls({text, sizeof text}, '_').c_str());
  }
  STRCMP_EQUAL("a_b", without_controls("a\x7f"
                                       "b",
                                       '_')
                          .c_str());
}

TEST(Printable, replaces_the_c1_controls_of_utf8) {
  STRCMP_EQUAL("a_b", without_controls("a\xc2\x85"
                                       "b",
                                       '_')
                          .c_str());
  STRCMP_EQUAL("a_b", without_controls("a\xc2\x9b"
                                       "b",
                                       '_')
                          .c_str());
}

TEST(Printable, keeps_letters_of_any_script) {
  for (const char* text : {"", "plain", "\xc3\xa9t\xc3\xa9", "\xc2\xa0", "\xe2\x82\xac", "a\xc2"})
    STRCMP_EQUAL(text, without_controls(text, '_').c_str());
}
