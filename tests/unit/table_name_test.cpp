// Table names as users write them, and as SQL.
#include "core/table_name.hpp"

#include <string>

#include "core/sql_name.hpp"
#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

TEST_GROUP(TableName){};

TEST(TableName, reads_names_with_and_without_schema_as_they_are_written) {
  struct {
    const char *text, *schema, *table;
  } const cases[] = {
      {"django_session", "", "django_session"},
      {"public.django_session", "public", "django_session"},
      {"Tenant.My Sessions", "Tenant", "My Sessions"},
      {"\"odd.schema\".\"a \"\"b\"\"\"", "odd.schema", "a \"b\""},
      {"s.\"x.y\"", "s", "x.y"},
  };
  for (const auto& expected : cases) {
    const TableName name = parse_table_name(expected.text);
    STRCMP_EQUAL(expected.schema, name.schema.c_str());
    STRCMP_EQUAL(expected.table, name.table.c_str());
  }
}

TEST(TableName, refuses_what_can_not_be_a_name) {
  const std::string long_name(64, 'x');
  for (const std::string text :
       {"", ".", "a.", ".b", "a.b.c", "\"a", "a\"b\"", "\"\"", "\"a\"b", long_name.c_str()})
    CHECK_TRUE_TEXT(
        refusal([&] { parse_table_name(text); }).find("public.django_session") != std::string::npos,
        text.c_str());
}

TEST_GROUP(SqlName){};

TEST(SqlName, code_is_a_string_that_nothing_in_it_ends) {
  STRCMP_EQUAL(R"(E'SELECT ''a'', $$b$$, "c\\''d"')",
               sql_code(R"(SELECT 'a', $$b$$, "c\'d")").c_str());
}

TEST(SqlName, a_string_is_one_whatever_standard_conforming_strings_is) {
  STRCMP_EQUAL("'it''s'", sql_string("it's").c_str());
  STRCMP_EQUAL(R"(E'\\''::int or true;--')", sql_string(R"(\'::int or true;--)").c_str());
}

TEST(SqlName, escapes_what_does_not_survive_printing) {
  STRCMP_EQUAL(R"(U&"report\007C2026")", sql_identifier("report|2026").c_str());
  STRCMP_EQUAL(R"(U&"a""\\\000A")", sql_identifier("a\"\\\n").c_str());
  STRCMP_EQUAL(R"(U&"\0085\2028ü")", sql_identifier("\xc2\x85\xe2\x80\xa8\xc3\xbc").c_str());
  // No character: refused by the server, and no other name.
  STRCMP_EQUAL(R"(U&"a\202E\+0E0061")", sql_identifier("a\xe2\x80\xae\xf3\xa0\x81\xa1").c_str());
  STRCMP_EQUAL(R"(E'a\u202E\U000E0061')",
               printable_string("a\xe2\x80\xae\xf3\xa0\x81\xa1").c_str());
  STRCMP_EQUAL(R"(U&"caf\DCE9")", sql_identifier("caf\xe9").c_str());
  STRCMP_EQUAL(R"(E'public."a\u007C"')", printable_string(R"(public."a|")").c_str());
  STRCMP_EQUAL("'public.a'", printable_string("public.a").c_str());
}

TEST(SqlName, escapes_the_quoted_names_of_a_text) {
  STRCMP_EQUAL(R"(DROP VIEW public.U&"a\007Cb""c", "d""e"; "f | g)",
               with_printable_names(R"(DROP VIEW public."a|b""c", "d""e"; "f | g)").c_str());
  STRCMP_EQUAL(R"(U&"a\007Cb" | c)", with_printable_names(R"(U&"a\007Cb" | c)").c_str());
}

TEST(SqlName, quotes_where_it_must) {
  STRCMP_EQUAL("django_session", sql_identifier("django_session").c_str());
  STRCMP_EQUAL("\"MySession\"", sql_identifier("MySession").c_str());
  STRCMP_EQUAL("\"user\"", sql_identifier("user").c_str());
  STRCMP_EQUAL("\"1st\"", sql_identifier("1st").c_str());
  STRCMP_EQUAL("\"a\"\"b\"", sql_identifier("a\"b").c_str());
  STRCMP_EQUAL("\"\"", sql_identifier("").c_str());
  STRCMP_EQUAL("tenant.\"My Table\"", sql_table("tenant", "My Table").c_str());
}
