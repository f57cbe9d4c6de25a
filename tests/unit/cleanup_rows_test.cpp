// What a cleanup reads of the server's rows, without a server.
#include "../server_rows.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/reindex.hpp"
#include "cleanup/staying_rows.hpp"
#include "cleanup/swap_report.hpp"
#include "measure/leftovers.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::sessions;
using namespace django_session::server_rows;

namespace {

/// A healthy row but for one value.
pg::Row but(const char* column, const char* value) { return with(of_cleanup(), {{column, value}}); }

}  // namespace

TEST_GROUP(CleanupRows){};

TEST(CleanupRows, reads_a_swaps_state) {
  const SwapStateRow state = read_swap_state(of_cleanup());
  CHECK_TRUE(state.phase == Phase::catching_up);
  CHECK_TRUE(state.shadow == Oid(16500));
  DOUBLES_EQUAL(400, state.rows_before, 0);
  CHECK_TRUE(state.intact && state.lives());
  CHECK_FALSE(read_swap_state(but("backend_gone", "t")).lives());
  CHECK_FALSE(read_swap_state(but("lease", "-1")).lives());
  CHECK_TRUE(read_swap_state(with(of_cleanup(), {{"lease", "-1"}, {"is_vacuumed", "t"}})).lives());
  DOUBLES_EQUAL(-1, read_swap_state(but("rows_before", "-1")).rows_before, 0);
  CHECK_TRUE(read_swap_state(but("phase", "done")).phase == Phase::unknown);
}

TEST(CleanupRows, takes_a_state_that_can_not_be_for_damaged) {
  // Anything may have been written there: a run would wait for a lease without end.
  CHECK_FALSE(read_swap_state(but("lease", "1e9")).lives());
  for (const char* lease : {"Infinity", "NaN"})
    CHECK_THROWS(std::runtime_error, read_swap_state(but("lease", lease)));
  for (const char* column : {"rows_before", "bytes_before", "copied", "keep_seconds"})
    for (const char* value : {"NaN", "Infinity", "-2", "1e300"})
      CHECK_THROWS(std::runtime_error, read_swap_state(but(column, value)));
  for (const char* id : {"x", "", "0123456789ABCDEF0123456789ABCDEF", "'; DROP TABLE t; --"})
    CHECK_THROWS(std::runtime_error, read_swap_state(but("run_id", id)));
}

TEST(CleanupRows, takes_no_figure_of_a_swap_that_can_not_be) {
  DOUBLES_EQUAL(300, read_copied_chunk(of_cleanup()).rows, 0);
  DOUBLES_EQUAL(12, read_drained_keys(of_cleanup()).keys, 0);
  DOUBLES_EQUAL(400, read_compared_rows(of_cleanup()).rows_before, 0);
  CHECK_THROWS(std::runtime_error, read_copied_chunk(but("rows", "1e300")));
  CHECK_THROWS(std::runtime_error, read_drained_keys(but("keys", "NaN")));
  CHECK_THROWS(std::runtime_error, read_compared_rows(but("copied", nullptr)));
}

TEST(CleanupRows, takes_a_batchs_figures_that_can_not_be_for_none) {
  DOUBLES_EQUAL(60000, read_batch_report(of_cleanup()).wal_bytes, 0);
  for (const char* value : {"Infinity", "NaN", "-1"})
    DOUBLES_EQUAL(0, read_batch_report(but("wal_after", value)).wal_bytes, 0);
}

TEST(CleanupRows, refuses_an_orphan_that_no_table_can_be) {
  CHECK_TRUE(read_leftovers(of_cleanup()).orphans == std::vector<Oid>{Oid(16300)});
  for (const char* orphans : {"{16300,4294967296}", "{-1}", "{NaN}"})
    CHECK_THROWS(std::runtime_error, read_leftovers(but("orphans", orphans)));
}

TEST(CleanupRows, knows_no_size_of_an_index_of_endlessly_many_rows) {
  CHECK_TRUE(read_index_bloat(with(of_cleanup(), {{"rows", "400"}})).has_value());
  // pg_class.reltuples: since PostgreSQL 18 who may MAINTAIN a table can set it to anything.
  for (const char* rows : {"Infinity", "NaN"})
    CHECK_FALSE(read_index_bloat(with(of_cleanup(), {{"rows", rows}})).has_value());
  // And its statistics.
  for (const char* nulls : {"{7,0}", "{0,NaN}"})
    CHECK_FALSE(read_index_bloat(but("null_fractions", nulls)).has_value());
  CHECK_FALSE(read_index_bloat(but("widths", "{-1,8}")).has_value());
  CHECK_THROWS(std::runtime_error, read_index_bloat(but("alignments", "{1}")));
}
