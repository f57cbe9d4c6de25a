// Messages as real servers send them.
#include "pg/server_message.hpp"

#include <fmt/format.h>

#include <utility>

#include <CppUTest/TestHarness.h>

using namespace django_session::pg;

namespace {

constexpr const char* kKey = "8eac0123456789abcdefghijklmnopqr";
constexpr const char* kOurBlock = "PL/pgSQL function inline_code_block line 7 at EXECUTE";
constexpr const char* kTrigger = "PL/pgSQL function public.audit() line 2 at RAISE";

ServerMessage message(const std::string& sqlstate, const std::string& text,
                      const std::string& context = "", const std::string& source = "") {
  return {sqlstate, text, context, source, false, "djs_0f1e2d_"};
}

void is_hidden(const ServerMessage& message, const char* told) {
  const std::string text = repeatable_text(message);
  CHECK(text.find(kKey) == std::string::npos);
  STRCMP_EQUAL(told, text.substr(0, text.find(';')).c_str());
}

}  // namespace

TEST_GROUP(ServerMessage){};

TEST(ServerMessage, of_the_server_itself_is_repeated) {
  for (const ServerMessage& m :
       {message("53100", "could not extend file \"base/5/16388\": No space left on device"),
        message("55P03", "canceling statement due to lock timeout",
                "while locking tuple (0,1) in relation \"django_session\""),
        message("57014", "canceling statement due to statement timeout"),
        message("57014", "canceling statement due to statement timeout",
                "PL/pgSQL assignment \"lines := ARRAY(\n  SELECT 1)\"\n" + std::string(kTrigger),
                "ProcessInterrupts"),
        message("42501", "permission denied for table django_session", "", "aclcheck_error"),
        message("54000", "index row size 2712 exceeds btree version 4 maximum 2704 for index \"x\"",
                "", "_bt_check_third_page"),
        message("23505", "duplicate key value violates unique constraint \"x\""),
        message("XX002", "index \"x\" contains corrupted page at block 3"),
        message("01000", "skipping \"x\" --- only table or database owner can vacuum it"),
        message("2BP01", "cannot drop table x because other objects depend on it",
                "SQL statement \"DROP TABLE x\"\n" + std::string(kOurBlock)),
        message("", "server closed the connection unexpectedly")})
    STRCMP_EQUAL(m.text.c_str(), repeatable_text(m).c_str());
}

TEST(ServerMessage, of_a_block_of_ours_is_repeated) {
  const ServerMessage ours =
      message("DJS05", "the table has 3 live sessions",
              "PL/pgSQL function inline_code_block line 7 at RAISE\nSQL statement \"x\"",
              "exec_stmt_raise");
  STRCMP_EQUAL(ours.text.c_str(), repeatable_text(ours).c_str());
}

TEST(ServerMessage, that_code_of_the_database_raised_is_told_by_its_sqlstate_and_function) {
  const std::string text = "session " + std::string(kKey) + " is under investigation";
  is_hidden(message("P0001", text, kTrigger, "exec_stmt_raise"),
            "an exception was raised in function public.audit(), SQLSTATE P0001");
  for (const char* pretended : {"57014", "53100", "42501", "23505", "XX001", "DJS05", "01000"})
    CHECK(repeatable_text(message(pretended, text, kTrigger, "exec_stmt_raise")).find(kKey) ==
          std::string::npos);
  is_hidden(message("P0001", text, kTrigger + ("\nSQL statement \"x\"\n" + std::string(kOurBlock)),
                    "exec_stmt_raise"),
            "an exception was raised in function public.audit(), SQLSTATE P0001");
  is_hidden(message("P0001", text, "PL/pgSQL-Funktion audit(text) Zeile 2 bei RAISE"),
            "an exception was raised in function audit(text), SQLSTATE P0001");
  is_hidden(message("38000", text, "PL/Perl function \"audit\""),
            "an error was raised in function \"audit\", SQLSTATE 38000");
  is_hidden(message("XX000", text, "", "bad_key"),
            "an error was raised in the server's bad_key, SQLSTATE XX000");
}

TEST(ServerMessage, of_a_function_that_is_only_called_like_ours_is_not_repeated) {
  const std::string text = "session " + std::string(kKey) + " is pinned";
  for (const char* function :
       {"djs_app.audit()", "public.djs_audit()", "djs_0f1e2d_1.audit()",
        "public.djs_0f1e2d_1(integer)", "public.djs_0f1e2d_()", "public.djs_0f1e2_1()",
        "public.inline_code_block()", "inline_code_block(text)",
        "public.my_django_session_delete_expired()"}) {
    const std::string context = fmt::format("PL/pgSQL function {} line 2 at RAISE", function);
    CHECK(repeatable_text(message("P0001", text, context, "exec_stmt_raise")).find(kKey) ==
          text.npos);
  }
  const ServerMessage own =
      message("P0001", "the log is full", "PL/pgSQL function public.djs_0f1e2d_1() line 2 at RAISE",
              "exec_stmt_raise");
  STRCMP_EQUAL("the log is full", repeatable_text(own).c_str());
}

// A function in SQL that was inlined is not in the context; nor is it when its text is run by one of
// the server's.
TEST(ServerMessage, of_a_function_of_the_servers_about_what_it_was_given_is_not_repeated) {
  const std::string quoted = "\"" + std::string(kKey) + "\"";
  for (const char* context : {"", kOurBlock, kTrigger})
    for (const auto& [sqlstate, before] :
         {std::pair{"3D000", "database "},
          {"42703", "column "},
          {"42P01", "relation "},
          {"42704", "role "},
          {"3F000", "schema "},
          {"34000", "cursor "},
          {"58P01", "could not open file "},
          {"42883", "function "},
          {"0A000", "cross-database references are not implemented: "},
          {"08003", "connection "},
          {"54000", "word is too long in tsquery: "},
          {"26000", "prepared statement "},
          {"42501", "could not open file "}})
      CHECK(repeatable_text(
                message(sqlstate, before + quoted, context, "has_database_privilege_name"))
                .find(kKey) == std::string::npos);
}

TEST(ServerMessage, about_a_value_is_told_by_its_sqlstate) {
  is_hidden(message("22P02", "invalid input syntax for type uuid: \"" + std::string(kKey) + "\""),
            "a value was refused, SQLSTATE 22P02");
  is_hidden(message("42P01", "relation \"" + std::string(kKey) + "\" does not exist"),
            "a statement was refused, SQLSTATE 42P01");
}

TEST(ServerMessage, about_our_statement_is_repeated_where_it_was_found_in_its_text) {
  ServerMessage m = message("42883", "function now_utc() does not exist");
  CHECK(!may_be_repeated(m));
  m.in_our_statement = true;
  CHECK(may_be_repeated(m));
}
