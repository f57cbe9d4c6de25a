// What check_django_session prints.
#include "check_report.hpp"

#include <fmt/format.h>

#include <string>

#include "check_first_line.hpp"
#include "line_text.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using nagios::character_count;
using nagios::kLongestFirstLine;
using nagios::Report;

namespace {

constexpr double kGB = 1024.0 * 1024 * 1024;
constexpr double kDay = 86400;

struct Case {
  Measurement m;
  Findings findings;
  std::vector<Threshold> thresholds = default_thresholds();
  int verbosity = 0;
  std::vector<TableSize> largest_tables;

  MetricValue& operator[](Metric metric) { return findings.values[metric]; }
  Judgement judgement() const { return nagios::judge_table(m, findings, thresholds); }
  std::string line() const { return nagios::first_line(m, findings.values, judgement()); }
  std::string text() const {
    const Judgement judged = judgement();
    return nagios::write_report({m,
                                 findings,
                                 thresholds,
                                 judged,
                                 verbosity,
                                 largest_tables,
                                 "db1, port 5432",
                                 {.database = m.table.database}});
  }
};

Index make_index(const std::string& name, double bytes) {
  Index result;
  result.name = name;
  result.bytes = bytes;
  return result;
}

/// The motivating table: two years without clearsessions.
Case neglected() {
  Case c;
  c.m.table.database = "site";
  c.m.table.schema = "public";
  c.m.table.name = "django_session";
  c.m.table.role = "watcher";
  c.m.facts.now = 2e9;
  c.m.sizes_are_exact = true;
  c.m.heap_bytes = c.m.table_bytes = 6.2 * kGB;
  c.m.table.indexes = {make_index("small", 0.7 * kGB), make_index("big", 6 * kGB)};
  c.m.facts.last_vacuum = c.m.facts.now - 3600;
  c.m.statistics.expire_dates.histogram = {1, 2};
  c.m.oldest_expire_date = std::optional<double>();
  for (const MetricInfo& metric : all_metrics()) c[metric.metric] = {0, Certainty::exact, ""};
  c[Metric::total] = {12.9 * kGB, Certainty::exact, ""};
  c[Metric::database] = {14 * kGB, Certainty::exact, ""};
  c[Metric::database_percent] = {92, Certainty::exact, ""};
  c[Metric::live] = {123000, Certainty::estimated, ""};
  c[Metric::expired] = {3977000, Certainty::estimated, ""};
  c[Metric::expired_percent] = {97, Certainty::estimated, ""};
  c[Metric::reclaimable] = {12.5 * kGB, Certainty::estimated, ""};
  c[Metric::overdue] = {730 * kDay, Certainty::exact, ""};
  c.findings.reclaimable = Reclaimable{.expired = 12 * kGB, .free = 0.5 * kGB};
  return c;
}

Case healthy() {
  Case c = neglected();
  c[Metric::overdue].number = 0;
  c[Metric::reclaimable].number = 0;
  c[Metric::expired].number = 0;
  c[Metric::expired_percent].number = 0;
  c.findings.reclaimable = Reclaimable{};
  return c;
}

std::string name_of(std::size_t length) { return std::string(length, 'n'); }

}  // namespace

TEST_GROUP(FirstLine){};

TEST(FirstLine, says_state_decision_and_picture) {
  Case c = neglected();
  c.m.table.database = c.m.table.name = name_of(1);
  c[Metric::overdue].number = 9 * kDay;
  STRCMP_EQUAL(
      "DJANGO_SESSION CRITICAL - reclaimable ~12.5 GB: n 12.9 GB (92% of n), ~97% of 4.1M sessions "
      "expired, overdue 9 d",
      c.line().c_str());
}

TEST(FirstLine, leaves_out_the_end_where_it_does_not_fit) {
  STRCMP_EQUAL(
      "DJANGO_SESSION CRITICAL - reclaimable ~12.5 GB: django_session 12.9 GB (92% of site), ~97% "
      "of 4.1M sessions expired",
      neglected().line().c_str());
}

TEST(FirstLine, has_the_picture_alone_when_all_is_well) {
  STRCMP_EQUAL(
      "DJANGO_SESSION OK - django_session 12.9 GB (92% of site), ~0% of 123k sessions expired",
      healthy().line().c_str());
}

TEST(FirstLine, does_not_say_overdue_twice) {
  Case c = neglected();
  c[Metric::reclaimable].number = 0;
  STRCMP_EQUAL(
      "DJANGO_SESSION WARNING - overdue 730 d: django_session 12.9 GB (92% of site), ~97% of 4.1M "
      "sessions expired",
      c.line().c_str());
}

TEST(FirstLine, marks_lower_bounds) {
  Case c = neglected();
  c[Metric::reclaimable].certainty = Certainty::at_least;
  STRCMP_CONTAINS("- reclaimable at least 12.5 GB: ", c.line().c_str());
}

TEST(FirstLine, names_unknown_metrics_with_their_reason_once) {
  Case c = healthy();
  c[Metric::overdue] = c[Metric::reclaimable] = MetricValue::unknown("no statistics yet");
  STRCMP_EQUAL(
      "DJANGO_SESSION UNKNOWN - overdue, reclaimable unknown (no statistics yet): django_session "
      "12.9 GB (92% of site)",
      c.line().c_str());
}

TEST(FirstLine, an_empty_table_has_no_sessions) {
  Case c = healthy();
  c[Metric::live].number = 0;
  STRCMP_CONTAINS(", no sessions", c.line().c_str());
}

TEST(FirstLine, shows_the_lock_and_a_schema_other_than_public) {
  Case c = healthy();
  c.m.locked = true;
  c.m.table.schema = "accounts";
  c[Metric::total].certainty = Certainty::estimated;
  STRCMP_CONTAINS("- accounts.django_session (locked) ~12.9 GB (92% of site)", c.line().c_str());
}

TEST(FirstLine, says_that_it_was_not_counted) {
  Case c = healthy();
  c.m.not_counted = "counting took too long";
  STRCMP_CONTAINS("~0% of 123k sessions expired (not counted)", c.line().c_str());
}

TEST(FirstLine, shortens_long_names_and_drops_the_least_important) {
  Case c = neglected();
  c.m.table.schema = c.m.table.name = c.m.table.database = name_of(63);
  const std::string line = c.line();
  CHECK(character_count(line) <= kLongestFirstLine);
  STRCMP_CONTAINS("reclaimable ~12.5 GB: nnnnnnn", line.c_str());
  STRCMP_CONTAINS("... 12.9 GB", line.c_str());
}

TEST(FirstLine, fits_whatever_decides_and_whatever_the_names) {
  for (const bool locked : {false, true}) {
    for (const std::size_t length : {1U, 20U, 40U, 63U}) {
      Case c = neglected();
      c.m.locked = locked;
      c.m.table.schema = c.m.table.name = c.m.table.database = name_of(length);
      c.m.not_counted = "counting took too long";
      c.thresholds.clear();
      for (const MetricInfo& metric : all_metrics()) {
        c[metric.metric] = {1e15, Certainty::at_least, ""};
        c.thresholds.push_back({metric.metric, {0, 1, false}, State::critical});
        const std::string line = c.line();
        CHECK_TEXT(character_count(line) <= kLongestFirstLine, line.c_str());
        STRCMP_CONTAINS("DJANGO_SESSION CRITICAL - database at least", line.c_str());
        CHECK_EQUAL(locked, line.find("locked") != std::string::npos);
      }
      STRCMP_CONTAINS("more reasons: ", c.line().c_str());
    }
  }
}

TEST(FirstLine, fits_with_a_reason_of_any_length) {
  Case c = healthy();
  c.m.locked = true;
  for (std::size_t length = 1; length < 300; ++length) {
    c[Metric::overdue] = MetricValue::unknown(std::string(length, 'r'));
    const std::string line = c.line();
    CHECK_TEXT(character_count(line) <= kLongestFirstLine, line.c_str());
    STRCMP_CONTAINS("overdue unknown (r", line.c_str());
    STRCMP_CONTAINS("locked", line.c_str());
  }
}

TEST(FirstLine, counts_characters_and_not_bytes) {
  Case c = healthy();
  for (int i = 0; i < 31; ++i) c.m.table.name += "\xc3\xa9";
  const std::string line = c.line();
  CHECK(character_count(line) <= kLongestFirstLine);
  CHECK(line.find("\xc3\xa9\xc3 ") == std::string::npos);
}

TEST(FirstLine, holds_neither_pipes_nor_control_characters) {
  Case c = healthy();
  c.m.table.name = "a|b\nc\x1b[31m";
  STRCMP_CONTAINS("- a/b?c?[31m 12.9 GB", c.line().c_str());
}

TEST_GROUP(Report){};

TEST(Report, is_one_line_when_all_is_well) {
  const std::string text = healthy().text();
  LONGS_EQUAL(text.size() - 1, text.find('\n'));
  STRCMP_CONTAINS(" | database=", text.c_str());
}

TEST(Report, has_more_lines_with_v) {
  Case c = healthy();
  c.verbosity = 1;
  STRCMP_CONTAINS("\nLast vacuum 1 h ago, last analyze never\n", c.text().c_str());
  CHECK(c.text().find("Judged") == std::string::npos);
}

TEST(Report, has_more_lines_when_somebody_has_to_act) {
  const std::string text = neglected().text();
  STRCMP_CONTAINS(
      "\npublic.django_session in database site: 12.9 GB; heap 6.2 GB, TOAST 0 bytes, indexes 6.7 "
      "GB\n"
      "Index big: 6 GB\nIndex small: 717 MB\n",
      text.c_str());
  STRCMP_CONTAINS(
      "\nSessions: live ~123k, expired ~4M, dead 0 (estimated from the planner's statistics)\n",
      text.c_str());
  STRCMP_CONTAINS(
      "\nReclaimable: ~12.5 GB: expired sessions 12 GB, dead rows 0 bytes, free space 512 MB",
      text.c_str());
  STRCMP_CONTAINS(
      "\nInstead: delete the expired sessions, about 12 GB, in the site's folder; the files stay "
      "as "
      "large as they are:\n  python manage.py clearsessions\n",
      text.c_str());
}

TEST(Report, has_perfdata_once_and_no_other_pipe) {
  Case c = neglected();
  c.verbosity = 3;
  c.m.table.name = c.m.table.indexes[0].name = c.m.table.role = c.m.table.database = "a|b";
  c.m.table.indexes[0].valid = false;
  c.largest_tables = {{"x|y", "z", 5}};
  const std::string text = c.text();
  LONGS_EQUAL(text.find('|'), text.rfind('|'));
  CHECK(text.find('|') < text.find('\n'));
}

TEST(Report, lists_at_most_ten_indexes) {
  Case c = neglected();
  c.m.table.indexes.clear();
  for (int i = 0; i < 14; ++i)
    c.m.table.indexes.push_back(make_index(fmt::format("i{}", i), 8192.0 * i));
  STRCMP_CONTAINS("\nIndex i13: 104 kB\n", c.text().c_str());
  STRCMP_CONTAINS("\n... and 4 more indexes\n", c.text().c_str());
  CHECK(c.text().find("Index i3:") == std::string::npos);
}

TEST(Report, knows_its_own_table_better_than_the_catalogue) {
  Case c = neglected();
  c.largest_tables = {{"public", "blog", 20 * kGB}, {"public", "django_session", 8192}};
  STRCMP_CONTAINS("\nLargest tables of site: public.blog ~20 GB, public.django_session ~12.9 GB\n",
                  c.text().c_str());
}

TEST(Report, of_a_site_that_stands_still_for_minutes_is_critical) {
  Case c = healthy();
  c.m.locked = true;
  c.m.lock = {"pid 8, which waits for pid 7", "pid 7", "SELECT pg_catalog.pg_terminate_backend(7)",
              119};
  STRCMP_CONTAINS("DJANGO_SESSION OK - django_session (locked)", c.text().c_str());
  c.m.lock.waited = 300;
  STRCMP_CONTAINS(
      "DJANGO_SESSION CRITICAL - sessions can't be read or saved for 5 min, behind pid 7: "
      "django_session (locked)",
      c.text().c_str());
}

TEST(Report, says_so_when_not_even_sizes_are_known) {
  Case c = healthy();
  c.m.locked = true;
  c.m.sizes_unknown = "never vacuumed";
  c[Metric::total] = MetricValue::unknown("never vacuumed");
  c[Metric::database_percent] = MetricValue::unknown("never vacuumed");
  c.verbosity = 1;
  c.largest_tables = {{"public", "blog", 8192}};
  STRCMP_CONTAINS("DJANGO_SESSION OK - django_session (locked) of unknown size, ~0% of 123k",
                  c.text().c_str());
  STRCMP_CONTAINS(
      "\npublic.django_session in database site: sizes are unknown, never vacuumed\nSessions",
      c.text().c_str());
  STRCMP_CONTAINS("\nLargest tables of site: public.blog ~8192 bytes\n", c.text().c_str());
}

TEST(Report, gives_the_reason_for_what_is_unknown) {
  Case c = healthy();
  c[Metric::overdue] = MetricValue::unknown("the table is locked");
  STRCMP_CONTAINS("\noverdue is unknown: the table is locked\n", c.text().c_str());
}

TEST(Report, shows_thresholds_and_sources_with_vv_and_the_connection_with_vvv) {
  Case c = neglected();
  c.verbosity = 2;
  STRCMP_CONTAINS("\nJudged: -c reclaimable=10737418240: ~12.5 GB is CRITICAL\n", c.text().c_str());
  STRCMP_CONTAINS("\nSizes are the files' own", c.text().c_str());
  CHECK(c.text().find("Connected to") == std::string::npos);
  c.verbosity = 3;
  STRCMP_CONTAINS(
      "\nConnected to db1, port 5432, database site, as watcher; the server is a primary\n",
      c.text().c_str());
}

TEST(Report, names_the_section_of_the_runbook_before_the_other_ways) {
  const std::string text = neglected().text();
  const auto runbook =
      text.find("\nRunbook: man 7 django_session, section \"Expired sessions\"\nInstead: ");
  CHECK(runbook != std::string::npos);
  CHECK(text.find("--dry-run") < runbook);
}

TEST(Report, names_the_section_of_the_value_that_alerts_where_there_is_no_advice) {
  Case c = healthy();
  c.thresholds = {{Metric::live, {0, 5, false}, State::warning}};
  STRCMP_CONTAINS("\nRunbook: man 7 django_session, section \"A large table\"\n", c.text().c_str());
  c[Metric::live] = MetricValue::unknown("too slow");
  c.verbosity = 1;
  STRCMP_CONTAINS("section \"A value is unknown\"\n", c.text().c_str());
}

TEST(Report, warns_of_an_abandoned_swap_though_a_value_is_unknown) {
  Case c = healthy();
  c.m.table.swap = SwapUnderWay{.started = c.m.facts.now - 7200};
  c[Metric::overdue] = MetricValue::unknown("the table is locked");
  c.thresholds = {{Metric::overdue, {0, 2 * kDay, false}, State::warning}};
  CHECK(c.judgement().state == State::warning);
  STRCMP_CONTAINS("DJANGO_SESSION WARNING - an interrupted swap was left behind", c.line().c_str());
  c.thresholds.push_back({Metric::total, {0, 0, false}, State::critical});
  CHECK(c.judgement().state == State::critical);
}

TEST(Report, of_a_healthy_table_names_no_section) {
  Case c = healthy();
  c.verbosity = 3;
  CHECK(c.text().find("Runbook") == std::string::npos);
}

TEST_GROUP(Failure){};

TEST(Failure, is_one_line_where_it_fits) {
  STRCMP_EQUAL("DJANGO_SESSION CRITICAL - cannot connect: no route / host?\n",
               nagios::write_failure(State::critical, "cannot connect: no route | host\n").c_str());
}

TEST(Failure, follows_in_full_where_it_does_not_fit) {
  const std::string message(200, 'm');
  const std::string text = nagios::write_failure(State::unknown, message);
  LONGS_EQUAL(kLongestFirstLine, text.find('\n'));
  STRCMP_CONTAINS(("...\n" + message + "\n").c_str(), text.c_str());
}
