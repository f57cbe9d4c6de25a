// Which advice follows from which measurement.
#include "core/diagnosis.hpp"

#include <algorithm>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kMB = 1024.0 * 1024;
constexpr double kDay = 86400;

/// A table of 100 MB in which everything is as it should be.
Measurement healthy() {
  Measurement m;
  m.table.database = "site";
  m.table.schema = "public";
  m.table.name = "django_session";
  m.table.role = "watcher";
  m.facts.now = 1e9;
  m.sizes_are_exact = true;
  m.heap_bytes = m.table_bytes = 100 * kMB;
  m.statistics.columns = {
      {"session_key", -1, 4, 33}, {"session_data", -1, 4, 200}, {"expire_date", 8, 8, 8}};
  m.statistics.expire_dates.histogram = {1, 2};
  m.oldest_expire_date = std::optional<double>();
  return m;
}

Findings findings_of(const Reclaimable& parts = {}) {
  Findings findings;
  for (const MetricInfo& metric : all_metrics())
    findings.values[metric.metric] = {0, Certainty::exact, ""};
  findings.reclaimable = parts;
  return findings;
}

Index make_index(const std::string& name, bool valid) {
  Index result;
  result.name = name;
  result.valid = valid;
  return result;
}

std::string commands(const Measurement& m, const Findings& findings) {
  std::string text;
  for (const Advice& advice : diagnose(m, findings, Route{.database = m.table.database}))
    text += advice.command + "\n";
  return text;
}

std::string text_of(const Measurement& m, const Findings& findings) {
  std::string text;
  for (const Advice& advice : diagnose(m, findings, Route{.database = m.table.database}))
    text += advice.finding + "\n";
  return text;
}

}  // namespace

TEST_GROUP(Diagnosis){};

TEST(Diagnosis, a_healthy_table_needs_nothing) {
  STRCMP_EQUAL("", commands(healthy(), findings_of()).c_str());
}

TEST(Diagnosis, expired_sessions_are_deleted_and_then_the_space_is_given_back) {
  STRCMP_EQUAL(
      "django_session_cleanup -d site -T public.django_session --method swap --dry-run\n"
      "python manage.py clearsessions\n"
      "python manage.py clearsessions && env PGOPTIONS='-c lock_timeout=2s' psql -d site -c "
      "'VACUUM (FULL, ANALYZE) "
      "public.django_session'\n",
      commands(healthy(), findings_of({.expired = 90 * kMB})).c_str());
}

TEST(Diagnosis, free_space_is_given_back_and_the_lock_is_named) {
  const Findings findings = findings_of({.free = 50 * kMB});
  STRCMP_EQUAL(
      "django_session_cleanup -d site -T public.django_session --method swap --dry-run\n"
      "env PGOPTIONS='-c lock_timeout=2s' psql -d site -c 'VACUUM (FULL, ANALYZE) "
      "public.django_session'\n",
      commands(healthy(), findings).c_str());
  STRCMP_CONTAINS("VACUUM FULL, which locks the table", text_of(healthy(), findings).c_str());
}

TEST(Diagnosis, odd_names_reach_the_cleanup_through_a_shell) {
  Measurement m = healthy();
  m.table.database = "it's";
  m.table.name = "odd.\"name\"";
  STRCMP_CONTAINS(
      "django_session_cleanup -d 'it'\\''s' -T 'public.\"odd.\"\"name\"\"\"' --method swap "
      "--dry-run",
      commands(m, findings_of({.free = 50 * kMB})).c_str());
}

TEST(Diagnosis, names_that_a_line_would_change_are_escaped_for_shell_and_regclass) {
  Measurement m = healthy();
  m.table.name = "a|'b\n";
  STRCMP_CONTAINS(R"( -T $'public.a\174\047b\012' --method swap --dry-run)",
                  commands(m, findings_of({.free = 50 * kMB})).c_str());
  m.locked = true;
  STRCMP_CONTAINS(R"(l.relation = E'\''"public"."a\u007C'\'''\''b\u000A"'\''::regclass AND)",
                  commands(m, findings_of()).c_str());
}

TEST(Diagnosis, an_interrupted_swap_is_removed) {
  Measurement m = healthy();
  m.facts.now = 10000;
  m.table.swap = SwapUnderWay{17, 9940, 0, false};
  STRCMP_EQUAL("", commands(m, findings_of()).c_str());
  m.table.swap->started = 2000;
  STRCMP_EQUAL(
      "django_session_cleanup -d site -T public.django_session --method swap\n"
      "django_session_cleanup -d site -T public.django_session --abort\n",
      commands(m, findings_of()).c_str());
  m.table.swap->keep_seconds = 604800;  // with another one it would start over, and delete more
  STRCMP_CONTAINS("--method swap --keep 604800s\n", commands(m, findings_of()).c_str());
}

TEST(Diagnosis, dead_rows_are_vacuumed) {
  STRCMP_EQUAL(
      "psql -d site -c 'VACUUM (ANALYZE) public.django_session'\n"
      "django_session_cleanup -d site -T public.django_session --method swap --dry-run\n",
      commands(healthy(), findings_of({.dead = 50 * kMB})).c_str());
}

TEST(Diagnosis, who_keeps_dead_rows_is_ended_before_they_are_vacuumed) {
  Measurement m = healthy();
  m.dead_rows_held_by = Holder{"pid 7 of role site", "SELECT pg_catalog.pg_terminate_backend(7)"};
  STRCMP_EQUAL(
      "psql -d site -c 'SELECT pg_catalog.pg_terminate_backend(7)'\n"
      "psql -d site -c 'VACUUM (ANALYZE) public.django_session'\n"
      "django_session_cleanup -d site -T public.django_session --method swap --dry-run\n",
      commands(m, findings_of({.dead = 50 * kMB})).c_str());
  m.dead_rows_held_by->end_it = "";
  STRCMP_CONTAINS("pid 7 of role site; end the long query of the replica that it is for",
                  diagnose(m, findings_of({.dead = 50 * kMB}), Route{.database = "site"})
                      .front()
                      .finding.c_str());
  STRCMP_EQUAL("", commands(m, findings_of()).c_str());
}

TEST(Diagnosis, bloated_indexes_are_built_anew) {
  STRCMP_EQUAL("psql -d site -c 'REINDEX TABLE CONCURRENTLY public.django_session'\n",
               commands(healthy(), findings_of({.bloat = 50 * kMB})).c_str());
}

TEST(Diagnosis, small_parts_are_left_alone) {
  STRCMP_EQUAL("", commands(healthy(), findings_of({.expired = 9 * kMB, .free = 9 * kMB})).c_str());
  Measurement small = healthy();
  small.heap_bytes = small.table_bytes = kMB;
  STRCMP_EQUAL("", commands(small, findings_of({.free = 0.9 * kMB})).c_str());
}

TEST(Diagnosis, a_gigabyte_is_never_small) {
  Measurement large = healthy();
  large.heap_bytes = large.table_bytes = 100 * 1024 * kMB;
  STRCMP_CONTAINS("VACUUM (FULL", commands(large, findings_of({.free = 1025 * kMB})).c_str());
}

TEST(Diagnosis, clearsessions_that_never_runs_is_scheduled) {
  Findings findings = findings_of();
  findings.values[Metric::overdue].number = 1.9 * kDay;
  STRCMP_EQUAL("", commands(healthy(), findings).c_str());
  findings.values[Metric::overdue].number = 730 * kDay;
  STRCMP_EQUAL(
      "python manage.py clearsessions\n"
      "17 3 * * *  cd /path/to/site && /path/to/venv/bin/python manage.py clearsessions\n",
      commands(healthy(), findings).c_str());
  findings = findings_of({.expired = 50 * kMB});  // then there is a better way to delete them
  findings.values[Metric::overdue].number = 730 * kDay;
  STRCMP_CONTAINS("django_session_cleanup", commands(healthy(), findings).substr(0, 30).c_str());
  STRCMP_CONTAINS("expired 730 d ago", text_of(healthy(), findings).c_str());
}

TEST(Diagnosis, without_statistics_the_table_is_analyzed) {
  Findings findings = findings_of();
  findings.values[Metric::live] = MetricValue::unknown("no statistics yet");
  findings.reclaimable.reset();
  Measurement m = healthy();
  m.statistics.expire_dates = {};
  STRCMP_EQUAL("psql -d site -c 'ANALYZE public.django_session'\n", commands(m, findings).c_str());
}

TEST(Diagnosis, a_statistics_target_of_0_is_no_reason_to_analyze_again_and_again) {
  Findings findings = findings_of();
  findings.values[Metric::live] = MetricValue::unknown("no statistics");
  findings.reclaimable.reset();
  Measurement m = healthy();
  m.statistics.expire_dates = {};
  m.statistics.columns[2].never_analyzed = true;
  STRCMP_EQUAL(
      "psql -d site -c 'ALTER TABLE public.django_session ALTER expire_date SET STATISTICS 100; "
      "ANALYZE public.django_session'\n",
      commands(m, findings).c_str());
}

TEST(Diagnosis, counters_that_stand_still_are_set_going_and_not_analyzed) {
  Findings findings = findings_of();
  findings.values[Metric::dead] = MetricValue::unknown("track_counts is off");
  Measurement m = healthy();
  STRCMP_EQUAL("psql -d site -c 'ANALYZE public.django_session'\n", commands(m, findings).c_str());
  m.facts.counters.stand_still = "track_counts is off for role django";
  STRCMP_CONTAINS("FROM pg_db_role_setting", commands(m, findings).c_str());
  STRCMP_CONTAINS("track_counts is off for role django", text_of(m, findings).c_str());
}

TEST(Diagnosis, missing_rights_are_granted) {
  Measurement m = healthy();
  Findings findings = findings_of();
  findings.values[Metric::live] = MetricValue::unknown("no right");
  m.table.may_read_expire_date = false;
  STRCMP_EQUAL("psql -d site -c 'GRANT SELECT (expire_date) ON public.django_session TO watcher'\n",
               commands(m, findings).c_str());
  m.table.may_use_schema = false;
  STRCMP_EQUAL("psql -d site -c 'GRANT USAGE ON SCHEMA public TO watcher'\n",
               commands(m, findings).c_str());
}

TEST(Diagnosis, hidden_widths_ask_for_the_roles_script) {
  Measurement m = healthy();
  m.statistics.columns[1].average_width.reset();
  Findings findings = findings_of({.at_least = true});
  STRCMP_EQUAL(
      ("psql -d site -v table=public.django_session -v monitor=watcher -f " + roles_file() + "\n")
          .c_str(),
      commands(m, findings).c_str());
  m.table.role = "it's";
  STRCMP_CONTAINS("-v monitor='it'\\''s' ", commands(m, findings).c_str());
  m.statistics.expire_dates = {};
  STRCMP_EQUAL("", commands(m, findings).c_str());
}

TEST(Diagnosis, invalid_indexes_are_dropped) {
  Measurement m = healthy();
  m.table.indexes = {make_index("good", true), make_index("django_session_pkey_ccnew1", false),
                     make_index("extra", false)};
  STRCMP_EQUAL(
      "psql -d site -c 'DROP INDEX CONCURRENTLY public.django_session_pkey_ccnew1'\n"
      "psql -d site -c 'DROP INDEX CONCURRENTLY public.extra'\n",
      commands(m, findings_of()).c_str());
  STRCMP_CONTAINS("pkey_ccnew1 (0 bytes) was left by an interrupted REINDEX",
                  text_of(m, findings_of()).c_str());
}

TEST(Diagnosis, a_missing_index_on_expire_date_is_created) {
  Measurement m = healthy();
  m.table.expire_date_indexed = false;
  STRCMP_EQUAL(
      "psql -d site -c 'CREATE INDEX CONCURRENTLY ON public.django_session (expire_date)'\n",
      commands(m, findings_of()).c_str());
}

TEST(Diagnosis, behind_a_lock_there_is_nothing_to_do_but_to_look_who_holds_it) {
  Measurement m = healthy();
  m.locked = true;
  m.lock.by = "pid 4711, VACUUM FULL, for 90 s";
  m.table.name = "it's";
  const Findings findings = findings_of({.free = 90 * kMB});
  STRCMP_CONTAINS("locked by pid 4711, VACUUM FULL, for 90 s: nobody waits",
                  text_of(m, findings).c_str());
  STRCMP_CONTAINS(R"(l.relation = '\''public."it'\'''\''s"'\''::regclass AND l.database = (SELECT)",
                  commands(m, findings).c_str());
  LONGS_EQUAL(1, diagnose(m, findings, Route{.database = m.table.database}).size());
}

TEST(Diagnosis, a_standby_sends_to_the_primary) {
  Measurement m = healthy();
  m.facts.standby = true;
  Findings findings = findings_of();
  findings.values[Metric::dead] = MetricValue::unknown("not recorded");
  LONGS_EQUAL(0, diagnose(m, findings, Route{.database = m.table.database}).size());
  findings = findings_of({.free = 90 * kMB});
  STRCMP_CONTAINS(
      "run what follows on the primary",
      diagnose(m, findings, Route{.database = m.table.database}).front().finding.c_str());
}

TEST(Diagnosis, a_superuser_is_told_no_command_that_leads_nowhere) {
  Measurement m = healthy();
  m.locked = m.facts.standby = true;
  const auto advices = diagnose(m, findings_of(), Route{.database = m.table.database});
  LONGS_EQUAL(1, advices.size());
  STRCMP_CONTAINS("locked by the replay", advices.front().finding.c_str());
  STRCMP_EQUAL("", advices.front().command.c_str());
}

TEST(Diagnosis, names_are_quoted_where_sql_needs_it) {
  Measurement m = healthy();
  m.table.schema = "My Schema";
  m.table.name = "a|b\n";
  STRCMP_CONTAINS("'VACUUM (FULL, ANALYZE) \"My Schema\".U&\"a\\007Cb\\000A\"'",
                  commands(m, findings_of({.free = 90 * kMB})).c_str());
}

TEST(Diagnosis, one_way_is_named_first_and_the_others_after_it_full_last) {
  const auto advices = diagnose(healthy(), findings_of({.expired = 50 * kMB, .free = 20 * kMB}),
                                Route{.database = "site"});
  LONGS_EQUAL(3, advices.size());
  CHECK(advices[0].place == Advice::Place::next);
  STRCMP_CONTAINS("about 70 MB come free", advices[0].finding.c_str());
  CHECK(advices[1].place == Advice::Place::instead);
  CHECK(advices[2].place == Advice::Place::instead);
  STRCMP_CONTAINS("VACUUM (FULL", advices[2].command.c_str());
}

TEST(Diagnosis, large_with_live_sessions_alone_is_a_matter_of_the_site) {
  const Route route{.database = "site"};
  Findings findings = findings_of({.expired = 2 * kMB});
  findings.values[Metric::live].number = 1.2e6;
  const auto advices = diagnose(healthy(), findings, route, {Metric::total});
  LONGS_EQUAL(1, advices.size());
  CHECK(advices[0].section == RunbookSection::large);
  STRCMP_CONTAINS("1.2M sessions are live, and cleaning gives next to nothing back",
                  advices[0].finding.c_str());
  STRCMP_CONTAINS("SESSION_COOKIE_AGE", advices[0].finding.c_str());
  STRCMP_EQUAL("", advices[0].command.c_str());
  const Route reading{.user = "watcher"};
  STRCMP_CONTAINS(
      "psql -U watcher -c",
      diagnose(healthy(), findings, route, {Metric::total}, reading)[0].command.c_str());
  LONGS_EQUAL(0, diagnose(healthy(), findings, route).size());
  LONGS_EQUAL(0, diagnose(healthy(), findings, route, {Metric::database}).size());
  const auto cleaning =
      diagnose(healthy(), findings_of({.expired = 50 * kMB}), route, {Metric::total});
  for (const Advice& advice : cleaning) CHECK(advice.section == RunbookSection::expired);
  findings.values[Metric::live] = MetricValue::unknown("too slow");
  LONGS_EQUAL(0, text_of(healthy(), findings).find("live") != std::string::npos);
}

TEST(Diagnosis, who_heads_the_queue_at_a_lock_can_be_ended) {
  Measurement m = healthy();
  m.locked = true;
  m.lock = {"pid 8, VACUUM FULL, which waits for pid 7, idle in transaction", "pid 7",
            "SELECT pg_catalog.pg_terminate_backend(7)", 30};
  STRCMP_CONTAINS("all who read or save a session wait", text_of(m, findings_of()).c_str());
  STRCMP_CONTAINS("or end pid 7,", text_of(m, findings_of()).c_str());
  STRCMP_CONTAINS("psql -d site -c 'SELECT pg_catalog.pg_terminate_backend(7)'\n",
                  commands(m, findings_of()).c_str());
}
