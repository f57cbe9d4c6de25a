// Which indexes a cleanup builds anew, and in which order.
#include "core/index_bloat.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kMb = 1024 * 1024;

std::string names(const std::vector<IndexBloat>& indexes) {
  std::string text;
  for (const IndexBloat& index : worth_rebuilding(indexes)) text += index.name + " ";
  return text;
}

}  // namespace

TEST_GROUP(IndexBloat){};

TEST(IndexBloat, the_smallest_come_first) {
  STRCMP_EQUAL("b c a ",
               names({{"a", 90 * kMb, kMb}, {"b", 10 * kMb, kMb}, {"c", 40 * kMb, kMb}}).c_str());
}

TEST(IndexBloat, what_random_keys_leave_free_is_normal) {
  STRCMP_EQUAL("", names({{"pkey", 100 * kMb, 77 * kMb}}).c_str());
}

TEST(IndexBloat, a_third_empty_is_worth_it) {
  STRCMP_EQUAL("a ", names({{"a", 150 * kMb, 100 * kMb}, {"b", 149 * kMb, 100 * kMb}}).c_str());
}

TEST(IndexBloat, less_than_a_megabyte_is_not) {
  STRCMP_EQUAL("a ", names({{"a", kMb + 8192, 8192}, {"b", kMb, 8192}}).c_str());
}

TEST(IndexBloat, an_index_smaller_than_expected_is_left_alone) {
  STRCMP_EQUAL("", names({{"a", 5 * kMb, 9 * kMb}}).c_str());
}
