// Prints every message that can be made without a connection, for test_messages.py to run on real
// servers: name, NUL, SQL, NUL. Arguments: the OIDs of the table public.django_session, of its
// TOAST table and of an index, and its owner. They are in the order of a swap, to be run by the
// owner.
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "cleanup/swap_sql.hpp"
#include "measure/leftovers.hpp"
#include "measure/more_rights.hpp"
#include "measure/question.hpp"

namespace {

using namespace django_session::sessions;
using django_session::Oid;
using std::chrono::milliseconds;

using Messages = std::vector<std::pair<std::string, std::string>>;

constexpr TransactionLimits kLimits{milliseconds(1000), milliseconds(20'000)};
constexpr const char* kSchema = "'public'";
constexpr const char* kTable = "'django_session'";

SwapNames names_of(Oid oid, const std::string& owner) {
  return {oid, "public", "public.django_session", owner, "0123456789abcdef"};
}

Messages swap_messages(const SwapNames& names) {
  const Columns columns = {"session_key", "session_data", "expire_date"};
  return {
      {"try_create_sql", try_create_sql(names, kLimits)},
      {"create_sql", create_sql(names, kLimits, {0, "now()", -1, 8192})},
      {"read_state_sql", read_state_sql(names, kLimits)},
      {"take_over_sql", take_over_sql(names, kLimits, names.run_id)},
      {"create_triggers_sql", create_triggers_sql(names, kLimits)},
      {"triggered_tables_query", triggered_tables_query(names)},
      {"columns_query", columns_query(names)},
      {"search_indexes_query", search_indexes_query(names)},
      {"copy_sql", copy_sql(names, kLimits, columns, 500)},
      {"collapse_log_sql", collapse_log_sql(names, kLimits)},
      {"forget_changed_sql", forget_changed_sql(names, kLimits)},
      {"build_indexes_sql", build_indexes_sql(names, kLimits, columns)},
      {"flush_statistics_sql", flush_statistics_sql(names, kLimits)},
      {"analyze_sql", analyze_sql(names, kLimits)},
      {"drain_sql", drain_sql(names, kLimits, columns, 10)},
      {"verify_sql", verify_sql(names, kLimits, columns)},
      {"count_live_sql heap", count_live_sql(names, kLimits, CountBy::heap)},
      {"count_live_sql index", count_live_sql(names, kLimits, CountBy::index)},
      {"count_live_sql key", count_live_sql(names, kLimits, CountBy::key)},
      {"renew_sql", renew_sql(names, kLimits)},
      {"end_lease_sql", end_lease_sql(names, kLimits)},
      {"exchange_sql", exchange_sql(names, kLimits, columns, {500, milliseconds(2000)})},
      {"reported_sql", reported_sql(names, kLimits)},
      {"disable_sql", disable_sql(names, kLimits)},
      {"remove_triggers_sql", remove_triggers_sql(names, kLimits, Whose::ours, {names.table})},
      {"remove_sql guarded", remove_sql(names, kLimits, Whose::ours)},
      {"remove_sql", remove_sql(names, kLimits, Whose::anybodys)},
  };
}

/// With all that it can ask.
Reading reading(Oid oid, Oid toast_oid, Oid index_oid, const std::string& owner) {
  Reading all;
  all.oid = oid;
  all.toast_oid = toast_oid;
  all.index_oids = {index_oid};
  all.table = "public.django_session";
  all.schema_literal = kSchema;
  all.table_literal = kTable;
  all.owner_literal = "'" + owner + "'";
  all.more_rights = more_rights();
  all.count_up_to = all.calibrate_up_to = 1000;
  all.changes_to_bear = -1;
  all.statistics = own_statistics(kSchema, kTable);
  return all;
}

Messages reading_messages(Reading all) {
  const Guard guard{all.oid, all.table, kSchema, kTable};
  const milliseconds budget(5000);
  PreparedStatements none, prepared;
  prepared.begin();
  for (int i = 0; i < 2; ++i) reading_message(all, prepared);
  const Oid oid = all.oid;
  Messages messages = {
      {"grants_message", grants_message(budget)},
      {"definition_message", definition_message(kSchema, kTable, "", more_rights(), budget)},
      {"definition_message by path",
       definition_message("", kTable, "'public'", more_rights({"pg_database"}), budget)},
      {"after_failure_message", after_failure_message(all)},
      {"candidates_message", candidates_message(budget)},
      {"largest_tables_message", largest_tables_message(budget)},
      {"dead_row_holders_message", dead_row_holders_message(budget)},
      {"leftovers_query", leftovers_query(oid)},
      {"taken_names_query", taken_names_query(oid)},
      {"left_behind_query", left_behind_query(oid)},
      {"what_stays_query", what_stays_query(oid)},
      {"reading_message", reading_message(all, none)},
      {"preparation_message", preparation_message(prepared.preparation(), budget)},
      {"function_statistics",
       "SELECT q.* FROM " + function_statistics("pg_relation_size", all.oid) + " q;"},
  };
  all.guarded = true;
  messages.emplace_back("guard_message", guard_message(guard, budget) + reading_message(all, none));
  all.exact = true;
  messages.emplace_back("reading_message exact",
                        guard_message(guard, budget) + reading_message(all, none));
  return messages;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const std::vector<std::string> given(argv + 1, argv + argc);
  const auto oid = [&given](std::size_t i) {
    return Oid(static_cast<std::uint32_t>(std::stoul(given[i])));
  };
  Messages messages = reading_messages(reading(oid(0), oid(1), oid(2), given[3]));
  for (auto& message : swap_messages(names_of(oid(0), given[3])))
    messages.push_back(std::move(message));
  for (const auto& [name, sql] : messages) std::cout << name << '\0' << sql << '\0';
  return std::cout.good() ? 0 : 1;
}
