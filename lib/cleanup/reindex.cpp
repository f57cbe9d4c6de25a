// Which indexes, and whether it is safe.
#include "cleanup/reindex.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "cleanup/long_statement.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/reclaim_rights.hpp"
#include "cleanup/replicas.hpp"
#include "cleanup/session_query.hpp"
#include "cleanup/sql_files.hpp"
#include "core/reclaimable.hpp"
#include "core/sql_name.hpp"
#include "core/sql_text.hpp"

namespace django_session::sessions {
namespace {

// {0} the table's OID. REINDEX CONCURRENTLY names its new index ..._ccnew, and for a moment the old
// one ..._ccold, with a number behind it if there is such a name already; both are invalid as long
// as they have that name.
constexpr const char* kLeftovers = R"(
SELECT n.nspname AS schema, c.relname AS name
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = {0} AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
ORDER BY c.relname;
)";

// {0} the table's OID, {1} the index's name as a string. One row if it is unique: its columns, and
// that none of them is NULL, as SQL.
constexpr const char* kUniqueColumns = R"(
SELECT string_agg('s.' || quote_ident(a.attname), ', ' ORDER BY key.place) AS columns,
  string_agg(format('s.%I IS NOT NULL', a.attname), ' AND ') AS not_null
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid,
  unnest(i.indkey) WITH ORDINALITY key(attnum, place)
  JOIN pg_attribute a ON a.attrelid = {0} AND a.attnum = key.attnum
WHERE i.indrelid = {0} AND c.relname = {1} AND i.indisunique AND key.place <= i.indnkeyatts
GROUP BY i.indexrelid;
)";

// {0} the table, {1} and {2} as of kUniqueColumns. TABLESAMPLE: by reading the table, and not by
// the index that is in doubt.
constexpr const char* kTwice = R"(
SELECT count(*) AS twice FROM (SELECT FROM ONLY {0} s TABLESAMPLE SYSTEM (100) WHERE {2}
  GROUP BY {1} HAVING count(*) > 1 LIMIT 1) q)";

std::vector<IndexBloat> measure_indexes(Run& run) {
  std::vector<IndexBloat> result;
  for (const pg::Row& row : run.ask(sql::fill<sql::index_sizes>(sql::arg<"oid">(run.target().oid))))
    if (const auto index = read_index_bloat(row)) result.push_back(*index);
  return result;
}

std::string sql_index(Run& run, const std::string& schema, const std::string& name) {
  return run.connection().identifier(schema) + "." + run.connection().identifier(name);
}

/// Not stoppable, but short: it is what a stop leaves to do.
bool drop_leftover(Run& run, const std::string& schema, const std::string& name) {
  const std::string index = fmt::format("index {}, left by an interrupted REINDEX,", name);
  const auto end =
      pg::Deadline::after(patience::kLeftoverIndexsLock + run.options().answer_timeout);
  const auto check = [end] {
    if (end.passed()) throw Stopped("an index is in use");
  };
  try {
    run_long(run.connection(), "DROP INDEX CONCURRENTLY IF EXISTS " + sql_index(run, schema, name),
             {patience::kLeftoverIndexsLock, run.options().answer_timeout, end},
             {check, [](double) {}});
    run.note(fmt::format("removed index {}, left by an interrupted REINDEX", name));
    return true;
  } catch (const Stopped&) {
    run.note(index + " is in use");
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    run.note(fmt::format("{} can't be removed now: {}", index, error.what()));
  }
  return false;
}

int drop_leftovers(Run& run) {
  int dropped = 0;
  for (const pg::Row& row : run.ask(fmt::format(kLeftovers, run.target().oid)))
    dropped += drop_leftover(run, row.text("schema"), row.text("name")) ? 1 : 0;
  return dropped;
}

/// 14.0 to 14.3 build indexes that lack entries (release notes of 14.4).
bool is_sound(int version) { return version < 140000 || version >= 140004; }

/// Where the table holds twice what a unique index lets in once (a damaged index does let it in),
/// REINDEX fails, and the server's log has the value: a session's key.
std::string why_it_stays_bloated(Run& run, const IndexBloat& index) {
  const CleanupTarget& target = run.target();
  const pg::Rows unique =
      run.ask(fmt::format(kUniqueColumns, target.oid, run.connection().literal(index.name)));
  if (unique.empty()) return "";
  run.show("checking index " + index.name);
  const std::string select = fmt::format(kTwice, target.sql_name, unique.front().text("columns"),
                                         unique.front().text("not_null"));
  const auto limit = pg::Deadline::after(
      std::min<std::chrono::milliseconds>(patience::kFindsDuplicates, run.end().remaining()));
  const ReadingAs who = who_may_read(run);
  std::string why_not = who == ReadingAs::nobody ? fmt::format("only {} or a member of it can",
                                                               sql_identifier(target.owner))
                                                 : "the answer was incomplete";
  const auto twice = ask_sessions(run, who, {{"twice"}, select}, limit, &why_not);
  const std::string name = sql_index(run, target.schema, index.name);
  if (!twice)
    return fmt::format(
        "index {} is not rebuilt: it could not be checked for duplicate keys, which the server's "
        "log would show: {}",
        name, why_not);
  if (twice->number("twice") == 0.0) return "";
  return fmt::format(
      "index {0} is not rebuilt, because it is damaged: the table holds duplicates that it should "
      "have refused; delete them, then run REINDEX INDEX CONCURRENTLY {0}",
      name);
}

/// Why not; empty if it was.
std::string rebuild(Run& run, const IndexBloat& index) {
  std::string why_not;
  try {
    run.run_long(sql_of_reindex(run, index.name), patience::kReindexsLock);
  } catch (const Stopped&) {
    drop_leftovers(run);
    throw;
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::statement) throw;
    why_not = fmt::format("index {} was not rebuilt: {}", index.name, error.what());
    drop_leftovers(run);
  }
  run.note_warnings();
  return why_not;
}

}  // namespace

std::optional<IndexBloat> read_index_bloat(const pg::Row& row) {
  const auto widths = row.numbers("widths"), alignments = row.numbers("alignments"),
             nulls = row.numbers("null_fractions"), distinct = row.numbers("distinct_values");
  const std::size_t all = widths.size();
  if (alignments.size() != all || nulls.size() != all || distinct.size() != all)
    throw std::runtime_error("of an index some columns are missing");
  std::vector<ColumnWidth> columns;
  for (std::size_t i = 0; i < all; ++i) {
    if (!pg::kAmount.contain(widths[i]) || !pg::kShare.contain(nulls[i])) return std::nullopt;
    columns.push_back({widths[i], alignments[i], nulls[i], distinct[i]});
  }
  const double rows = row.number("rows").value_or(0);
  if (!std::isfinite(rows)) return std::nullopt;
  const double compact = compact_index_bytes(
      std::max(0.0, rows), columns, row.number("fillfactor").value_or(90), row.flag("unique"));
  return IndexBloat{row.text("name"), row.number("bytes", pg::kAmount).value_or(0), compact};
}

std::string sql_of_reindex(Run& run, const std::string& name) {
  return "REINDEX INDEX CONCURRENTLY " + sql_index(run, run.target().schema, name);
}

void rebuild_bloated_indexes(Run& run, int version, const LookAround& look_around) {
  if (!is_sound(version))
    return run.note(
        "no REINDEX CONCURRENTLY: it has a bug in this server's version, fixed in 14.4");
  std::string& message = run.result().message;
  const std::vector<IndexBloat> bloated = worth_rebuilding(measure_indexes(run));
  CleanupProgress progress;
  progress.parts = static_cast<int>(bloated.size());
  progress.part = 0;
  for (const IndexBloat& index : bloated) {
    progress.part += 1;
    run.check();
    wait_for_replicas(run);
    look_around();
    std::string why_not = why_it_stays_bloated(run, index);
    if (why_not.empty()) {
      progress.phase = "rebuilding index " + index.name;
      run.show(progress);
      why_not = rebuild(run, index);
    }
    if (!why_not.empty()) {
      message += (message.empty() ? "" : "; ") + why_not;
      run.note(why_not);
    }
  }
}

int remove_reindex_leftovers(Run& run) {
  return reclaim_rights(run).drop ? drop_leftovers(run) : 0;
}

}  // namespace django_session::sessions
