// How far a statement is, from what the server's progress views say.
#include "core/statement_progress.hpp"

#include <cmath>
#include <string>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

double share(const StatementProgress& progress) {
  return share_of_statement(progress).value_or(-1);
}

/// That no row of these, in this order, is less than the one before it.
void check_never_falls(const std::vector<StatementProgress>& rows) {
  double before = 0;
  for (const StatementProgress& row : rows) {
    CHECK_TEXT(share(row) >= before && share(row) <= 1, row.phase.c_str());
    before = share(row);
  }
}

}  // namespace

TEST_GROUP(StatementProgress){};

TEST(StatementProgress, an_index_is_read_for_and_then_written) {
  DOUBLES_EQUAL(0.2, share({"building index: scanning table", false, 0.5, {}}), 1e-9);
  DOUBLES_EQUAL(0.7, share({"building index: loading tuples in tree", false, 1, 0.5}), 1e-9);
  DOUBLES_EQUAL(0.42, share({"building index: loading tuples in tree", true, 1, 0.5}), 1e-9);
}

TEST(StatementProgress, is_a_share_whatever_the_server_says) {
  for (const double read : {std::nan(""), -1.0})
    DOUBLES_EQUAL(0, share({"scanning heap", false, read, {}}), 0);
  CHECK_TRUE(share({"scanning heap", false, 7, {}}) <= 1);
}

TEST(StatementProgress, never_falls) {
  for (const bool concurrently : {false, true})
    check_never_falls({{"building index: scanning table", concurrently, {}, {}},
                       {"building index: scanning table", concurrently, 1, {}},
                       {"building index: sorting live tuples", concurrently, 1, {}},
                       {"building index: loading tuples in tree", concurrently, 1, {}},
                       {"building index: loading tuples in tree", concurrently, 1, 1}});
  check_never_falls({{"building index: loading tuples in tree", true, 1, 1},
                     {"waiting for writers before validation", true, 1, 1},
                     {"index validation: scanning index", true, 1, 1},
                     {"index validation: sorting tuples", true, 1, 1},
                     {"index validation: scanning table", true, 1, 1},
                     {"waiting for old snapshots", true, {}, {}}});
  check_never_falls({{"scanning heap", false, 0.3, {}},
                     {"vacuuming indexes", false, 0.5, {}},
                     {"vacuuming heap", false, 0.5, 0.5},
                     {"scanning heap", false, 1, 0.5},
                     {"cleaning up indexes", false, 1, 0.5}});
  check_never_falls({{"seq scanning heap", false, 1, 0},
                     {"swapping relation files", false, 1, 0},
                     {"rebuilding index", false, 1, 0.5},
                     {"performing final cleanup", false, 1, 1}});
}

TEST(StatementProgress, is_not_known_of_other_phases) {
  for (const char* phase : {"", "initializing", "a phase of a later version"})
    CHECK_FALSE(share_of_statement({phase, false, 0.5, 0.5}).has_value());
}
