// From the server's rows to a measurement, without a server.
#include "measure/answer.hpp"
#include "measure/holders.hpp"

#include <string>

#include "../server_rows.hpp"
#include "pg/rows.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::sessions;
using namespace django_session::server_rows;

namespace {

pg::Row index_row(const char* oid, const char* name, const char* columns, const char* valid = "t") {
  return with(
      measured(),
      {{"oid", oid}, {"name", name}, {"relpages", "3"}, {"valid", valid}, {"columns", columns}});
}

pg::Row definition_row() {
  return with(
      measured(),
      {{"swap_comment", "django_session_cleanup, keeping 604800 s, started 2026-02-31 10:00:00Z"}});
}

pg::Row facts_row(const char* table, const char* indexes = "{1}", const char* toast = "16403") {
  return with(measured(), {{"table", table}, {"toast_oid", toast}, {"index_oids", indexes}});
}

pg::Row sizes_row(const char* sizes) {
  return with(measured(), {{"table", "114688"}, {"index_sizes", sizes}});
}

}  // namespace

TEST_GROUP(Answer){};

TEST(Answer, reads_arrays_numbers_and_nulls) {
  const pg::Row read =
      row({{"array", "{1,2.5,-3e2}"}, {"empty", "{}"}, {"null", nullptr}, {"word", "x"}});
  LONGS_EQUAL(3, read.numbers("array").size());
  DOUBLES_EQUAL(-300, read.numbers("array")[2], 0);
  LONGS_EQUAL(0, read.numbers("empty").size());
  LONGS_EQUAL(0, read.numbers("null").size());
  CHECK_FALSE(read.number("null").has_value());
  CHECK_FALSE(read.flag("null"));
  CHECK_THROWS(std::runtime_error, read.number("word"));
  CHECK_THROWS(std::out_of_range, read.number("missing"));
  CHECK_THROWS(std::runtime_error, row({{"oid", "1e30"}}).oid("oid"));
}

TEST(Answer, takes_no_number_out_of_bounds) {
  const pg::Row read = row({{"low", "-1"}, {"high", "1e300"}, {"no", "NaN"}, {"null", nullptr}});
  for (const char* column : {"low", "high", "no"})
    CHECK_THROWS(std::runtime_error, read.number(column, pg::kAmount));
  CHECK_FALSE(read.number("null", pg::kAmount).has_value());
  CHECK_THROWS(std::runtime_error, row({{"a", "{0.5,2}"}}).numbers("a", pg::kShare));
}

TEST(Answer, says_which_column_is_not_as_it_should_be) {
  const Definition definition =
      read_definition(definition_row(), {index_row("1", "i", "expire_date")});
  Measurement m = begin_measurement(definition, {});
  CHECK_THROWS(std::runtime_error, read_sizes(sizes_row("{}"), m));
  CHECK_THROWS(std::runtime_error, read_definition(with(definition_row(), {{"relkind", ""}}), {}));
  const pg::Row sample = with(measured(), {{"rows", "200"}});
  read_sample(sample, m);
  DOUBLES_EQUAL(400, m.seen->all_rows(), 0);
  for (const char* share : {"0", "1.5", "NaN"})
    CHECK_THROWS(std::runtime_error, read_sample(with(sample, {{"share", share}}), m));
  CHECK_THROWS(std::runtime_error, read_sample(with(sample, {{"expired", "201"}}), m));
}

TEST(Answer, has_no_fewer_bytes_of_a_table_than_of_its_heap) {
  Measurement m = begin_measurement(read_definition(definition_row(), {}), {});
  read_sizes(with(sizes_row("{}"), {{"heap", "200000"}}), m);  // it grew meanwhile
  DOUBLES_EQUAL(200000, m.table_bytes, 0);
}

TEST(Answer, notices_a_swap_and_when_it_was_abandoned) {
  Measurement m = begin_measurement(read_definition(definition_row(), {}), {});
  CHECK_TRUE(m.table.swap.has_value());
  DOUBLES_EQUAL(17, m.table.swap->logged, 0);
  DOUBLES_EQUAL(604800, m.table.swap->keep_seconds, 0);
  DOUBLES_EQUAL(1772532000, m.table.swap->started.value_or(0),
                0);  // the 31st of February is the 3rd of March
  m.facts.now = *m.table.swap->started + 60;
  CHECK_FALSE(swap_was_abandoned(m));
  m.facts.now += 7200;
  CHECK_TRUE(swap_was_abandoned(m));
  m.table.swap->runs = true;
  CHECK_FALSE(swap_was_abandoned(m));
  m.table.swap->runs = false;
  m.table.swap->started.reset();  // nobody says when it began
  CHECK_TRUE(swap_was_abandoned(m));
  m.table.swap.reset();
  CHECK_FALSE(swap_was_abandoned(m));
}

TEST(Answer, finds_the_index_that_leads_with_expire_date) {
  CHECK_TRUE(read_definition(definition_row(), {index_row("1", "e", "expire_date\nuser_id")})
                 .table.expire_date_indexed);
  CHECK_FALSE(read_definition(definition_row(), {index_row("1", "e", "user_id\nexpire_date")})
                  .table.expire_date_indexed);
  CHECK_FALSE(read_definition(definition_row(), {index_row("1", "e", "expire_date", "f")})
                  .table.expire_date_indexed);
}

TEST(Answer, takes_sizes_from_the_catalogue_until_the_real_ones_come) {
  const Definition definition =
      read_definition(definition_row(), {index_row("1", "i", "expire_date")});
  const auto facts = read_facts({facts_row("django_session")}, definition);
  CHECK_TRUE(facts.has_value());
  Measurement m = begin_measurement(definition, *facts);
  DOUBLES_EQUAL(81920, m.heap_bytes, 0);
  DOUBLES_EQUAL(3 * 8192, m.indexes_bytes(), 0);
  CHECK_FALSE(m.sizes_are_exact);
  CHECK_TRUE(m.facts.counters.anchored);
  DOUBLES_EQUAL(2 * 8192, m.toast_index_bytes, 0);
  read_sizes(sizes_row("{40960}"), m);
  DOUBLES_EQUAL(114688 + 8192 + 40960, m.total_bytes(), 0);
  CHECK_TRUE(m.sizes_are_exact);
}

TEST(Answer, takes_statistics_that_can_not_be_for_none) {
  const Definition definition =
      read_definition(definition_row(), {index_row("1", "i", "expire_date")});
  pg::Row row = facts_row("django_session");
  row.set("relpages", "-1");
  for (const char* tuples : {"NaN", "Infinity"}) {
    row.set("reltuples", tuples);
    const Measurement m = begin_measurement(definition, read_facts({row}, definition).value());
    DOUBLES_EQUAL(-1, m.facts.counters.tuples, 0);
    DOUBLES_EQUAL(0, m.heap_bytes, 0);
  }
}

TEST(Answer, notices_a_renamed_table_and_a_changed_set_of_indexes) {
  const Definition definition =
      read_definition(definition_row(), {index_row("1", "i", "expire_date")});
  CHECK_FALSE(read_facts({facts_row("old_session")}, definition).has_value());
  CHECK_FALSE(read_facts({}, definition).has_value());
  CHECK_FALSE(read_facts({facts_row("django_session", "{1,2}")}, definition).has_value());
  CHECK_FALSE(read_facts({facts_row("django_session", "{2}")}, definition).has_value());
  CHECK_FALSE(read_facts({facts_row("django_session", nullptr)}, definition).has_value());
  CHECK_FALSE(read_facts({facts_row("django_session", "{1}", "16999")}, definition).has_value());
}

TEST(Answer, leaves_counts_that_reached_their_limit_unknown) {
  Measurement m;
  read_expiry(
      row({{"oldest", "12.5"}, {"expired", "2001"}, {"live", "17"}, {"count_limit", "2000"}}), m);
  CHECK_FALSE(m.counted_expired.has_value());
  DOUBLES_EQUAL(17, m.counted_live.value_or(-1), 0);
  DOUBLES_EQUAL(12.5, m.oldest().value_or(-1), 0);
  CHECK_TRUE(m.oldest_expire_date.has_value());
  read_counts(row({{"expired", "123456"}, {"live", "99"}, {"count_limit", nullptr}}), m);
  DOUBLES_EQUAL(123456, m.counted_expired.value_or(-1), 0);
}

TEST(Answer, keeps_what_was_seen_at_least) {
  Measurement m;
  m.facts.now = 100;
  read_expiry(
      row({{"oldest", "12.5"}, {"expired", nullptr}, {"live", "2001"}, {"count_limit", "2000"}}),
      m);
  DOUBLES_EQUAL(1, m.least_expired, 0);  // it is the oldest one
  DOUBLES_EQUAL(2001, m.least_live, 0);
}

TEST(Answer, calibrates_by_a_count_that_ended) {
  Measurement m;
  m.facts.now = 100;
  m.heap_bytes = 8192;
  m.facts.counters.anchored = true;
  m.facts.counters.live = 1000;
  ValueDistribution distribution;
  distribution.histogram = {0, 200};
  calibrate(m, distribution);
  CHECK_FALSE(distribution.counted.has_value());
  m.counted_live = 30;
  calibrate(m, distribution);
  DOUBLES_EQUAL(0.97, distribution.fraction_before(100), 1e-9);
  m.counted_live = 2000;  // more than the table is said to have
  calibrate(m, distribution);
  CHECK_FALSE(distribution.counted.has_value());
}

TEST(Answer, calibrates_the_statistics_of_before_a_deletion) {
  Measurement m;
  m.facts.now = 97;
  m.oldest_expire_date = 50;  // half of what the statistics saw is gone
  m.statistics.expire_dates.histogram = {0, 100};
  m.heap_bytes = 8192;
  m.facts.counters.anchored = true;
  m.facts.counters.live = 500;
  m.counted_live = 30;
  calibrate(m, m.statistics.expire_dates);
  DOUBLES_EQUAL(0.97, m.statistics.expire_dates.fraction_before(97), 1e-9);
  m.counted_live = 200;  // again, after changes
  calibrate(m, m.statistics.expire_dates);
  DOUBLES_EQUAL(
      200,
      estimate_sessions(500, m.statistics.expire_dates, m.facts.now, m.oldest(), m.facts.counters)
          .live,
      1e-6);
}

TEST(Answer, calibrates_statistics_that_knew_of_no_expired_session) {
  Measurement m;
  m.facts.now = 50;
  m.statistics.expire_dates.histogram = {100, 200};
  m.heap_bytes = 8192;
  m.facts.counters.anchored = true;
  m.facts.counters.live = 1000;
  m.counted_live = 250;
  calibrate(m, m.statistics.expire_dates);
  for (const double now : {50.0, 51.0})
    DOUBLES_EQUAL(
        750, estimate_sessions(1000, m.statistics.expire_dates, now, {}, m.facts.counters).expired,
        1e-6);
}

TEST(Answer, tells_who_holds_the_lock) {
  STRCMP_EQUAL("", read_lock_queue({}).by.c_str());
  const LockQueue held = read_lock_queue({row({{"pid", "7"},
                                               {"role", "admin"},
                                               {"application", "psql"},
                                               {"granted", "t"},
                                               {"command", "VACUUM FULL"},
                                               {"age", "90"},
                                               {"head", "7"},
                                               {"prepared", nullptr},
                                               {"waited", nullptr}})});
  STRCMP_EQUAL("pid 7 (role admin, psql), VACUUM FULL, for 1.5 min", held.by.c_str());
  STRCMP_EQUAL("SELECT pg_catalog.pg_terminate_backend(7)", held.end_it.c_str());
  CHECK(!held.waited);
}

TEST(Answer, tells_who_keeps_the_one_waiting_that_all_wait_for) {
  const LockQueue queue = read_lock_queue({row({{"pid", "8"},
                                                {"role", "admin"},
                                                {"application", ""},
                                                {"granted", "f"},
                                                {"command", nullptr},
                                                {"age", nullptr},
                                                {"head", "7"},
                                                {"head_role", "report"},
                                                {"head_application", "psql"},
                                                {"head_state", "idle in transaction"},
                                                {"head_age", "3600"},
                                                {"prepared", nullptr},
                                                {"waited", "300"}})});
  STRCMP_EQUAL(
      "pid 8 (role admin), which waits for pid 7 (role report, psql), idle in transaction, for 1 h",
      queue.by.c_str());
  STRCMP_EQUAL("pid 7", queue.head.c_str());
  DOUBLES_EQUAL(300, *queue.waited, 0);
}

TEST(Answer, tells_of_a_prepared_transaction) {
  const LockQueue prepared = read_lock_queue({row({{"pid", nullptr},
                                                   {"granted", "t"},
                                                   {"head", nullptr},
                                                   {"prepared", "it's"},
                                                   {"waited", "5"}})});
  STRCMP_EQUAL("prepared transaction it's", prepared.by.c_str());
  STRCMP_EQUAL("ROLLBACK PREPARED 'it''s'", prepared.end_it.c_str());
}

TEST(Answer, of_those_who_hold_something_a_replica_is_not_ended_from_here) {
  const auto end_of = [](const char* kind, const char* name) {
    return read_holder(row({{"kind", kind},
                            {"name", name},
                            {"role", "r"},
                            {"application", "a"},
                            {"seconds", "7200"}}))
        .end_it;
  };
  STRCMP_EQUAL("SELECT pg_catalog.pg_terminate_backend(7)", end_of("backend", "7").c_str());
  STRCMP_EQUAL("ROLLBACK PREPARED 'it''s'", end_of("prepared", "it's").c_str());
  STRCMP_EQUAL("", end_of("slot", "replica").c_str());
  STRCMP_EQUAL("", end_of("walsender", "7").c_str());
}
