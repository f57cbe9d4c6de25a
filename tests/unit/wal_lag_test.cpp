// When a cleanup has to wait for replicas, slots and the archiver.
#include "core/wal_lag.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using Kind = WalReader::Kind;

namespace {

constexpr double kMb = 1024 * 1024;

WalReader replica(std::optional<double> bytes, std::optional<double> seconds = {}) {
  return {Kind::replica, "standby1", bytes, seconds, false};
}

LagLimit in_bytes(double bytes) { return {bytes, std::nullopt}; }
LagLimit in_time(int ms) { return {std::nullopt, std::chrono::milliseconds(ms)}; }

void check(const char* expected, const WalReader& reader, const LagLimit& limit) {
  STRCMP_EQUAL(expected, too_far_behind({reader}, limit).c_str());
}

}  // namespace

TEST_GROUP(WalLag){};

TEST(WalLag, nobody_is_behind_where_nobody_is) { STRCMP_EQUAL("", too_far_behind({}, {}).c_str()); }

TEST(WalLag, the_limit_itself_is_allowed) {
  check("", replica(64 * kMb), in_bytes(64 * kMb));
  check("replica \"standby1\" is 65 MB behind (--max-lag 64 MB)", replica(65 * kMb),
        in_bytes(64 * kMb));
}

TEST(WalLag, one_gigabyte_is_the_limit_where_none_is_given) {
  check("", replica(1024 * kMb), {});
  check("replica \"standby1\" is 2 GB behind (--max-lag 1 GB)", replica(2048 * kMb), {});
  check("replica \"standby1\" is 2 GB behind (--max-lag 1 GB)", replica(2048 * kMb), in_time(1000));
}

TEST(WalLag, time_counts_where_a_time_is_given) {
  check("", replica(0, 9.9), in_bytes(1));
  check("", replica(0, 2.0), in_time(2000));
  check("replica \"standby1\" is 2.5 s behind (--max-lag 2s)", replica(0, 2.5), in_time(2000));
  check("replica \"standby1\" is 0.5 s behind (--max-lag 0.25s)", replica(0, 0.5), in_time(250));
}

TEST(WalLag, what_is_hidden_is_not_taken_for_a_lag) { check("", replica({}, {}), in_bytes(1)); }

TEST(WalLag, slots_and_the_archiver_are_named) {
  check("replication slot \"backup\" is 2 GB behind (--max-lag 1 GB)",
        {Kind::slot, "backup", 2048 * kMb, {}, false}, {});
  check("the WAL archiver is 2 GB behind (--max-lag 1 GB)",
        {Kind::archiver, "", 2048 * kMb, {}, false}, {});
}

TEST(WalLag, a_slot_that_is_about_to_be_lost_counts_at_any_size) {
  check(
      "replication slot \"backup\" is about to be lost: it has used most of max_slot_wal_keep_size",
      {Kind::slot, "backup", 1, {}, true}, in_bytes(100 * kMb));
}

TEST(WalLag, the_first_that_is_too_far_behind_is_named) {
  const WalReader late{Kind::replica, "late", 3 * kMb, {}, false};
  STRCMP_CONTAINS("\"late\"", too_far_behind({replica(0), late}, in_bytes(kMb)).c_str());
}

TEST(WalLag, names_cannot_break_a_line) {
  STRCMP_CONTAINS("\"a?b\"",
                  too_far_behind({{Kind::replica, "a\nb", 2.0, {}, false}}, in_bytes(1)).c_str());
}
