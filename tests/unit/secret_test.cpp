// Passwords in the wrong place are recognised by their shape, and names are not taken for them.
#include "core/secret.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

TEST_GROUP(Secret){};

TEST(Secret, may_be_in_a_uri_a_connection_string_or_a_login) {
  for (const char* text :
       {"postgresql://u:pw@h/db", "host=h password=pw", "u:pw", "u:pw@h", "Password pw", "user=x"})
    CHECK_TRUE_TEXT(may_hold_password(text), text);
  for (const char* name :
       {"site", "django_session_monitor", "b\xc3\xbcro", "a-b.c", "me@example.com"})
    CHECK_FALSE_TEXT(may_hold_password(name), name);
}

TEST(Secret, is_not_in_a_hosts_address) {
  for (const char* host :
       {"", "db1", "db1,db2.example.com", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "10.0.0.1,::1",
        "/var/run/postgresql", "@abstract", "/tmp/a:b"})
    CHECK_FALSE_TEXT(host_may_hold_password(host), host);
  for (const char* host : {"u:pw@db1", "pw@db1", "db1,u:pw", "postgresql://u:pw@h/db", "db1:5432"})
    CHECK_TRUE_TEXT(host_may_hold_password(host), host);
}

TEST(Secret, hides_what_can_not_be_read_only_where_it_may_be_one) {
  for (const char* text : {"postgresql://u:pw@h/db", "u:pw", "host=h password=pw", "x@y"})
    STRCMP_EQUAL("(hidden)", repeatable(text).c_str());
  for (const char* text :
       {"1-10", ":", "", "foo", "10:5", "1:12%%", "@10:20", "~:x", "total=1:2x", "1GB:5GBx"})
    STRCMP_EQUAL(text, repeatable(text).c_str());
  STRCMP_EQUAL((std::string(57, 'x') + "...").c_str(), repeatable(std::string(61, 'x')).c_str());
}
