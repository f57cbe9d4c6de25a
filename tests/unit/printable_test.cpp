// Control characters and what is none.
#include "core/printable.hpp"

#include <string>
#include <utility>

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
  for (const char* text :
       {"", "plain", "\xc3\xa9t\xc3\xa9", "\xc2\xa0", "\xe2\x82\xac", "\xc2\xa1"})
    STRCMP_EQUAL(text, without_controls(text, '_').c_str());
}

TEST(Printable, replaces_each_byte_that_is_no_part_of_a_character) {
  const std::pair<const char*, const char*> cases[] = {
      {"sitzung_\xe4", "sitzung_?"},  // LATIN1
      {"\xe4\xf6\xfc", "???"},        //
      {"a\xc2", "a?"},                // cut off
      {"\xe2\x82", "??"},             //
      {"\xc0\xaf", "??"},             // overlong
      {"\xe0\x80\xaf", "???"},        //
      {"\xf0\x80\x80\xaf", "????"},   //
      {"\xed\xa0\x80", "???"},        // a surrogate
      {"\xf4\x90\x80\x80", "????"},   // beyond U+10FFFF
      {"\xff\xfe", "??"},             //
      {"\xe2\x80\xa8", "?"},          // a line separator
      {"\xe4\xc3\xa4", "?\xc3\xa4"},  // goes on behind it
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
  };
  for (const auto& [text, expected] : cases)
    STRCMP_EQUAL(expected, without_controls(text, '?').c_str());
}

TEST(Printable, replaces_what_changes_how_other_characters_are_read) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\xc2\xad\x62", "a?b"},                    // a soft hyphen
      {"a\xe2\x80\xae\x62", "a?b"},                // right to left, from here on
      {"a\xe2\x81\xa6\x62", "a?b"},                // an isolate
      {"a\xef\xbb\xbf\x62", "a?b"},                // a byte order mark
      {"a\xf3\xa0\x81\xa1\x62", "a?b"},            // a tag
      {"a\xe2\x80\xb0\x62", "a\xe2\x80\xb0\x62"},  // a sign that is seen
  };
  for (const auto& [text, expected] : cases)
    STRCMP_EQUAL(expected, without_controls(text, '?').c_str());
}

TEST(Printable, cuts_between_characters) {
  const std::string text = "a\xc3\xa4\xe2\x82\xac";
  const char* expected[] = {"",
                            "a",
                            "a",
                            "a\xc3\xa4",
                            "a\xc3\xa4",
                            "a\xc3\xa4",
                            "a\xc3\xa4\xe2\x82\xac",
                            "a\xc3\xa4\xe2\x82\xac"};
  for (std::size_t most = 0; most < 8; ++most)
    STRCMP_EQUAL(expected[most], std::string(cut_to_bytes(text, most)).c_str());
}
