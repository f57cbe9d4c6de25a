// What isn't known can't be taken for a number.
#include "core/known.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

TEST_GROUP(Known){};

TEST(Known, has_a_value_or_a_reason) {
  Known<double> size = 0;
  CHECK_TRUE(size.has_value());
  DOUBLES_EQUAL(0, *size, 0);
  STRCMP_EQUAL("", size.reason().c_str());
  size = Unknown{"it took too long"};
  CHECK_FALSE(size.has_value());
  STRCMP_EQUAL("it took too long", size.reason().c_str());
}

TEST(Known, is_never_0_where_it_is_unknown) {
  const Known<double> size = Unknown{"it took too long"};
  CHECK_THROWS(std::bad_optional_access, *size);
}

TEST(Known, may_know_that_there_is_nothing) {
  const Known<std::optional<double>> oldest = std::nullopt;
  CHECK_TRUE(oldest.has_value());
  CHECK_FALSE(oldest->has_value());
}
