// How a cleanup's batches find their size.
#include "core/batch_size.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using std::chrono::milliseconds;

namespace {

/// The size after `batches` on a server that deletes so many rows in a millisecond, of which each
/// batch costs `fixed_ms` more.
BatchSize settled(double rows_per_ms, double fixed_ms = 0, int batches = 40) {
  BatchSize size;
  for (int i = 0; i < batches; ++i)
    size.took(milliseconds(static_cast<int>(fixed_ms + size.rows() / rows_per_ms)));
  return size;
}

}  // namespace

TEST_GROUP(BatchSize){};

TEST(BatchSize, begins_small) { LONGS_EQUAL(500, BatchSize().rows()); }

TEST(BatchSize, settles_between_100_and_250_ms_on_slow_and_fast_servers) {
  for (const double rows_per_ms : {0.1, 1.0, 5.0, 30.0, 180.0}) {
    const double ms = settled(rows_per_ms).rows() / rows_per_ms;
    CHECK_TEXT(100 <= ms && ms <= 250, std::to_string(ms).c_str());
  }
}

TEST(BatchSize, settles_where_each_batch_has_a_cost_of_its_own) {
  const double ms = 80 + settled(20, 80).rows() / 20;
  CHECK_TEXT(100 <= ms && ms <= 250, std::to_string(ms).c_str());
}

TEST(BatchSize, stays_where_it_is_right) {
  BatchSize size = settled(30);
  const int rows = size.rows();
  for (const int ms : {100, 150, 250, 101}) size.took(milliseconds(ms));
  LONGS_EQUAL(rows, size.rows());
}

TEST(BatchSize, at_most_doubles) {
  BatchSize size;
  size.took(milliseconds(0));
  LONGS_EQUAL(1000, size.rows());
}

TEST(BatchSize, shrinks_at_once_after_a_slow_batch) {
  BatchSize size;
  size.took(milliseconds(640));
  LONGS_EQUAL(125, size.rows());
}

TEST(BatchSize, has_a_largest_and_a_smallest_size) {
  LONGS_EQUAL(50'000, settled(1e6).rows());
  LONGS_EQUAL(1, settled(0.001).rows());
}

TEST(BatchSize, becomes_smaller_until_it_is_one_row_when_locks_are_in_the_way) {
  BatchSize size;
  int tries = 0;
  while (size.was_too_much()) ++tries;
  LONGS_EQUAL(1, size.rows());
  LONGS_EQUAL(4, tries);
}

TEST(BatchSize, recovers_from_one_row) {
  BatchSize size;
  while (size.was_too_much()) continue;
  for (int i = 0; i < 12; ++i) size.took(milliseconds(1));
  LONGS_EQUAL(4096, size.rows());
}

TEST_GROUP(DeletePace){};

namespace {

/// The size after 40 batches on a server that deletes so many rows in a millisecond, with so much
/// WAL for each.
int settled_pace(double rows_per_ms, double wal_per_row) {
  DeletePace pace;
  for (int i = 0; i < 40; ++i)
    pace.took(milliseconds(static_cast<int>(pace.rows() / rows_per_ms)), pace.rows() * wal_per_row);
  return pace.rows();
}

}  // namespace

TEST(DeletePace, settles_at_some_60_ms_where_rows_are_slow) {
  for (const double rows_per_ms : {3.0, 10.0, 100.0}) {
    const double ms = settled_pace(rows_per_ms, 1) / rows_per_ms;
    CHECK_TEXT(40 <= ms && ms <= 90, std::to_string(ms).c_str());
  }
}

TEST(DeletePace, settles_at_some_256_kB_where_the_wal_is_much) {
  for (const double wal_per_row : {60.0, 400.0, 2000.0}) {
    const double bytes = settled_pace(1000, wal_per_row) * wal_per_row;
    CHECK_TEXT(170e3 <= bytes && bytes <= 400e3, std::to_string(bytes).c_str());
  }
}

TEST(DeletePace, does_not_become_tiny_because_a_batch_has_a_cost_of_its_own) {
  DeletePace pace;
  for (int i = 0; i < 40; ++i) pace.took(milliseconds(500 + pace.rows() / 10), 1);
  LONGS_EQUAL(100, pace.rows());
}

TEST(DeletePace, becomes_smaller_until_it_is_one_row_when_the_time_is_over) {
  DeletePace pace;
  while (pace.was_too_much()) continue;
  LONGS_EQUAL(1, pace.rows());
}

TEST(DeletePace, two_thirds_of_the_time_are_for_the_clients) {
  LONGS_EQUAL(2, DeletePace::pause_after(milliseconds(0)).count());
  LONGS_EQUAL(120, DeletePace::pause_after(milliseconds(60)).count());
  LONGS_EQUAL(5000, DeletePace::pause_after(milliseconds(60'000)).count());
}
