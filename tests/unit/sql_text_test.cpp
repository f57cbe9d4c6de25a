// Placeholders in SQL. That a wrong one doesn't compile is test_sql_files.py's to show.
#include "core/sql_text.hpp"

#include <CppUTest/TestHarness.h>

namespace {

namespace sql = django_session::sql;

constexpr std::string_view kTwice = "SELECT {what} FROM {table} WHERE {what} IS NOT NULL";
constexpr std::string_view kBraces = "'{}', '{1,2}', '^[0-9]{0,9}$', {Upper, {two words}, {open";
constexpr std::string_view kOne = "{name}";

}  // namespace

TEST_GROUP(SqlText){};

TEST(SqlText, fills_in_each_placeholder_wherever_it_stands) {
  STRCMP_EQUAL("SELECT 1.5 FROM t WHERE 1.5 IS NOT NULL",
               sql::fill<kTwice>(sql::arg<"table">("t"), sql::arg<"what">(1.5)).c_str());
}

TEST(SqlText, takes_other_braces_for_what_they_are) {
  STRCMP_EQUAL(std::string(kBraces).c_str(), sql::fill<kBraces>().c_str());
}

TEST(SqlText, does_not_look_for_placeholders_in_what_was_filled_in) {
  STRCMP_EQUAL("\"{name}\"", sql::fill<kOne>(sql::arg<"name">("\"{name}\"")).c_str());
}

TEST(SqlText, has_no_need_for_all_that_many_texts_are_offered) {
  STRCMP_EQUAL("a", sql::fill<kOne>(sql::optional_arg<"oid">(1), sql::arg<"name">("a")).c_str());
}
