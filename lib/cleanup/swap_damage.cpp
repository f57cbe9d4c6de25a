// Counts the live sessions in each way that there is to find them.
#include "cleanup/swap_damage.hpp"

#include <fmt/format.h>

#include "core/sql_name.hpp"

namespace django_session::sessions {
namespace {

double count_live(SwapRun& swap, CountBy by, const char* name) {
  return swap.report_long(count_live_sql(swap.names, swap.unhurried(), by)).number(name).value();
}

std::string name_of(SwapRun& swap, const pg::Row& index) {
  return sql_table(swap.run.target().schema, index.text("name"));
}

}  // namespace

std::string what_is_damaged(SwapRun& swap) {
  const double heap = count_live(swap, CountBy::heap, "heap");
  std::string damaged, remedy;
  for (const pg::Row& index : swap.run.ask(search_indexes_query(swap.names))) {
    const double found = index.flag("is_key") ? count_live(swap, CountBy::key, "key")
                                              : count_live(swap, CountBy::index, "index");
    if (found >= heap) continue;
    const std::string name = name_of(swap, index);
    damaged += fmt::format("; index {} lacks {} live sessions", name, heap - found);
    remedy += fmt::format("; run REINDEX INDEX CONCURRENTLY {}, then this again", name);
  }
  return "nothing was exchanged" + damaged + remedy;
}

std::string who_let_them_in(SwapRun& swap) {
  std::string name = "the primary key";
  for (const pg::Row& index : swap.run.ask(search_indexes_query(swap.names)))
    if (index.flag("is_key")) name = name_of(swap, index);
  return fmt::format(
      "nothing was exchanged; index {0} is damaged: the table has a session twice that it should "
      "have refused; delete the duplicates, run REINDEX INDEX CONCURRENTLY {0}, then this again",
      name);
}

}  // namespace django_session::sessions
