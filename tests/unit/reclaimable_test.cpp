// What a complete cleanup gives back. Sizes marked "measured" are those of PostgreSQL 15 after
// REINDEX or VACUUM FULL.
#include "core/reclaimable.hpp"
#include "core/packing.hpp"

#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

std::vector<ColumnWidth> key_column() { return {{33, 1, 0, -1}}; }
std::vector<ColumnWidth> date_column() { return {{8, 8, 0, -1}}; }
std::vector<ColumnWidth> row_columns(double data_width) {
  return {{33, 1, 0, -1}, {data_width, 4, 0, -1}, {8, 8, 0, -1}};
}

constexpr double kMegabyte = 1048576;

}  // namespace

TEST_GROUP(Reclaimable){};

TEST(Reclaimable, predicts_the_size_of_a_fresh_index) {
  DOUBLES_EQUAL(59064320, compact_index_bytes(1000000, key_column(), 90, true),
                0.001 * 59064320);                                                     // measured
  DOUBLES_EQUAL(22487040, compact_index_bytes(1000000, date_column(), 90, false), 0);  // measured
  DOUBLES_EQUAL(1810432, compact_index_bytes(30258, key_column(), 90, true), 0);       // measured
  DOUBLES_EQUAL(696320, compact_index_bytes(30258, date_column(), 90, false), 0);      // measured
  DOUBLES_EQUAL(8192, compact_index_bytes(0, key_column(), 90, true), 0);
  DOUBLES_EQUAL(16384, compact_index_bytes(1, key_column(), 90, true), 0);
}

TEST(Reclaimable, packs_equal_keys_into_lists) {
  std::vector<ColumnWidth> same = date_column();
  same[0].distinct = 100;
  CHECK_TRUE(compact_index_bytes(1000000, same, 90, false) <
             0.4 * compact_index_bytes(1000000, date_column(), 90, false));
}

TEST(Reclaimable, predicts_rows_per_page) {
  DOUBLES_EQUAL(8192.0 / 40, heap_bytes_per_row(row_columns(132), 100),
                1e-9);  // measured: 40 rows a page
  CHECK_TRUE(heap_bytes_per_row(row_columns(132), 50) > 2 * 8192.0 / 42);
}

TEST(Reclaimable, finds_expired_rows_in_a_dense_table) {
  const HeapFile heap{1000 * 8192.0, 100, row_columns(132)};
  const Reclaimable found = estimate_reclaimable({1200, 38800, 0}, heap, {}, {});
  DOUBLES_EQUAL(0.97 * heap.bytes, found.expired, 1);
  DOUBLES_EQUAL(0, found.free, 1e-6);
  CHECK_FALSE(found.at_least);
}

TEST(Reclaimable, finds_free_space_after_deletion_and_vacuum) {
  const HeapFile heap{1000 * 8192.0, 100, row_columns(132)};
  const Reclaimable found = estimate_reclaimable({1200, 0, 0}, heap, {}, {});
  DOUBLES_EQUAL(970 * 8192.0, found.free, 1);
  DOUBLES_EQUAL(0, found.expired, 0);
}

TEST(Reclaimable, says_at_least_where_widths_are_hidden) {
  const HeapFile heap{1000 * 8192.0, 100, {}};
  const Reclaimable found = estimate_reclaimable({1200, 0, 0}, heap, {}, {});
  CHECK_TRUE(found.at_least);
  CHECK_TRUE(found.free > 0);
  CHECK_TRUE(found.free < 970 * 8192.0);  // a lower bound
}

TEST(Reclaimable, takes_a_few_percent_of_free_space_for_noise) {
  const HeapFile heap{1000 * 8192.0, 100, row_columns(132)};
  DOUBLES_EQUAL(0, estimate_reclaimable({39000, 0, 0}, heap, {}, {}).free, 1e-6);
}

TEST(Reclaimable, does_not_believe_in_dead_rows_that_do_not_fit) {
  const HeapFile heap{30 * 8192.0, 100,
                      row_columns(132)};  // VACUUM FULL has been here, ANALYZE has not
  const Reclaimable found = estimate_reclaimable({1200, 0, 38800}, heap, {}, {});
  DOUBLES_EQUAL(0, found.dead, 1);
}

TEST(Reclaimable, a_heap_grows_where_its_fill_factor_was_lowered) {
  // 40 rows a page as they are; 19 afresh.
  const HeapFile heap{1000 * 8192.0, 50, row_columns(132)};
  const Reclaimable found = estimate_reclaimable({30000, 10000, 0}, heap, {}, {});
  DOUBLES_EQUAL(-579 * 8192.0, found.total(), 0.01 * heap.bytes);
  DOUBLES_EQUAL(0, without_growth(found).total(), 1e-6);
  const Reclaimable half = without_growth(estimate_reclaimable({10000, 30000, 0}, heap, {}, {}));
  DOUBLES_EQUAL(474 * 8192.0, half.total(), 0.01 * heap.bytes);
  DOUBLES_EQUAL(half.total(), half.expired, 1e-6);
  // Filled with that fill factor: it doesn't.
  const HeapFile filled{2000 * 8192.0, 50, row_columns(132)};
  DOUBLES_EQUAL(0, estimate_reclaimable({38000, 0, 0}, filled, {}, {}).total(),
                0.05 * filled.bytes);
}

TEST(Reclaimable, an_index_grows_where_its_fill_factor_was_lowered) {
  const double compact = compact_index_bytes(100000, key_column(), 90, true);
  const IndexFile index{compact, 45, true, key_column()};
  DOUBLES_EQUAL(-compact, estimate_reclaimable({100000, 0, 0}, {}, {}, {index}).bloat,
                0.05 * compact);
  // Denser than its widths say: nothing grows by that.
  const IndexFile dense{compact / 2, 90, true, key_column()};
  DOUBLES_EQUAL(0, estimate_reclaimable({100000, 0, 0}, {}, {}, {dense}).bloat, 1e-6);
}

TEST(Reclaimable, finds_dead_rows) {
  const HeapFile heap{1000 * 8192.0, 100, row_columns(132)};
  DOUBLES_EQUAL(0.5 * heap.bytes, estimate_reclaimable({20000, 0, 20000}, heap, {}, {}).dead, 1);
}

TEST(Reclaimable, finds_half_empty_indexes) {
  const double compact = compact_index_bytes(100000, key_column(), 90, true);
  const IndexFile index{2 * compact, 90, true, key_column()};
  DOUBLES_EQUAL(compact, estimate_reclaimable({100000, 0, 0}, {}, {}, {index}).bloat, 1);
  const IndexFile unknown{2 * compact, 90, true, {}};
  const Reclaimable found = estimate_reclaimable({100000, 0, 0}, {}, {}, {unknown});
  DOUBLES_EQUAL(0, found.bloat, 0);
  CHECK_TRUE(found.at_least);
}

TEST(Reclaimable, takes_full_toast_chunks_for_full) {
  // Measured: 60,000 sessions of 3 kB, two chunks each, two rows a page: VACUUM FULL gives nothing
  // back.
  const ToastFiles toast{30000 * 8192.0, 0, 120000};
  const Reclaimable found = estimate_reclaimable({60000, 0, 0}, {}, toast, {});
  DOUBLES_EQUAL(0, found.free, 1);
  CHECK_TRUE(found.at_least);
}

TEST(Reclaimable, finds_free_space_in_toast) {
  const ToastFiles toast{30000 * 8192.0, 3 * kMegabyte, 8400};  // 4,200 sessions are left of 60,000
  const Reclaimable found = estimate_reclaimable({4200, 0, 0}, {}, toast, {});
  DOUBLES_EQUAL(30000 * 8192.0 * 0.93, found.free, 0.03 * 30000 * 8192.0);
}

TEST(Reclaimable, of_few_sessions_with_many_chunks_promises_no_more_than_is_free) {
  // 2,000 of a million sessions have 100 full chunks each; a tenth of the file is free.
  const double chunks = 200'000, file = chunks * 2048 * 1.1;
  const Reclaimable found = estimate_reclaimable({1'000'000, 0, 0}, {}, {file, 0, chunks}, {});
  DOUBLES_EQUAL(file - chunks * 2048, found.free, kMegabyte);
  CHECK_TRUE(found.at_least);
}

TEST(Reclaimable, takes_an_only_chunk_for_full) {
  const ToastFiles toast{1000 * 8192.0, 0, 3900};  // four fit into a page
  const Reclaimable found = estimate_reclaimable({3900, 0, 0}, {}, toast, {});
  DOUBLES_EQUAL(0, found.free, 0.03 * toast.heap_bytes);
}

TEST(Reclaimable, gives_everything_of_an_emptied_table_back) {
  const Reclaimable found =
      estimate_reclaimable({0, 0, 0}, {1000 * 8192.0, 100, {}}, {8192 * 10.0, 8192, 0},
                           {{81920, 90, true, key_column()}});
  DOUBLES_EQUAL(1000 * 8192.0 + 81920 - 8192 + 81920 + 8192 - 8192, found.total(), 8192);
  CHECK_FALSE(found.at_least && found.total() == 0);
}

TEST(Reclaimable, packs_rows_one_after_the_other) {
  DOUBLES_EQUAL(8192.0 / 40, heap_bytes_for_each({200, 0}, 100), 1);  // 204 with the line pointer
  DOUBLES_EQUAL(8192.0 / 19, heap_bytes_for_each({200, 0}, 50), 1);
  DOUBLES_EQUAL(8192.0 / 3, heap_bytes_for_each({2040, 0}, 100), 10);  // not a fourth, for 20 bytes
  // Sizes that differ fill each other's gaps.
  CHECK_TRUE(heap_bytes_for_each({1030, 500}, 100) < 1.15 * 1034);
}

TEST(Reclaimable, packs_toasted_values_by_chunks) {
  // Two sessions of 3 kB take a page (measured on PostgreSQL 15); one of 6.4 kB leaves no room for
  // the next one's first chunk.
  DOUBLES_EQUAL(4096, toasted_value({3000, 0}).bytes, 10);
  DOUBLES_EQUAL(8192, toasted_value({6400, 0}).bytes, 10);
  DOUBLES_EQUAL(4, toasted_value({6400, 0}).chunks, 1e-9);
}

TEST(Reclaimable, knows_what_huge_values_take_without_packing_each) {
  const double mb = 1024 * 1024, gb = 1024 * mb;
  DOUBLES_EQUAL(2048.0 / 1996 * gb, toasted_value({gb, 0}).bytes, mb);
  DOUBLES_EQUAL(2048.0 / 1996 * mb, toasted_value({mb, 0}).bytes, 0.01 * mb);
  DOUBLES_EQUAL(toasted_value({900'000, 0}).bytes / 900'000,
                toasted_value({1'100'000, 0}).bytes / 1'100'000, 0.01);
  // One of an owner's making.
  CHECK_TRUE(toasted_value({3000, 1e18}).bytes > 0);
}

TEST(Reclaimable, keys_too_wide_for_a_list_have_an_entry_for_each_row) {
  const std::vector<ColumnWidth> wide = {{1000, 4, 0, 10}};
  DOUBLES_EQUAL(compact_index_bytes(10'000, wide, 90, true),
                compact_index_bytes(10'000, wide, 90, false), 0.02 * 10'000 * 1000);
}
