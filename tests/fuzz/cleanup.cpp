// What a cleanup reads: a swap's reports and its state, a batch's, leftovers, who is in the way or
// behind, indexes. Part of it is the owner's word. See changed_row.hpp.
#include <cmath>
#include <stdexcept>

#include "changed_row.hpp"
#include "cleanup/as_owner.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/reindex.hpp"
#include "cleanup/replicas.hpp"
#include "cleanup/swap_report.hpp"
#include "core/batch_size.hpp"
#include "core/statement_progress.hpp"
#include "core/wal_lag.hpp"
#include "demand.hpp"
#include "measure/holders.hpp"
#include "measure/leftovers.hpp"
#include "pg/server_message.hpp"

using namespace django_session;
using namespace django_session::sessions;
using fuzz::demand;

namespace {

void demand_amount(double number, std::string_view what) {
  demand(std::isfinite(number) && number >= 0, what, fmt::format("{}", number));
}

bool consists_of(const std::string& text, const char* characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string::npos;
}

void state(const pg::Row& row) {
  const SwapStateRow state = read_swap_state(row);
  // It becomes part of SQL.
  demand(consists_of(state.run_id, "0123456789abcdef"), "a run's id", state.run_id);
  demand_amount(state.copied, "copied");
  demand_amount(state.keep_seconds, "keep_seconds");
  for (const double number : {state.rows_before, state.bytes_before, state.age, state.lease})
    demand(std::isfinite(number), "a finite figure of the state", "");
  demand(state.lives() || !state.is_vacuumed, "a swap that is vacuumed lives", "");
}

void copied(const pg::Row& row) {
  const CopiedChunk chunk = read_copied_chunk(row);
  for (const double number : {chunk.rows, chunk.copied, chunk.log_bytes})
    demand_amount(number, "of a chunk");
}

void drained(const pg::Row& row) {
  const DrainedKeys drained = read_drained_keys(row);
  demand_amount(drained.keys, "keys");
  demand_amount(drained.ms, "ms");
}

void compared(const pg::Row& row) {
  const ComparedRows compared = read_compared_rows(row);
  demand_amount(compared.copied, "compared");
  demand_amount(compared.rows_before, "rows before");
}

void batch(const pg::Row& row) {
  const BatchReport report = read_batch_report(row);
  for (const double number : {report.seen, report.free, report.deleted, report.wal_bytes})
    demand_amount(number, "of a batch");
  for (const auto& addresses : {report.left_over, report.left_last})
    for (const std::string& address : addresses)
      demand(consists_of(address, "(,)0123456789"), "an address", address);
  for (const std::string& id : report.lockers)
    demand(consists_of(id, "0123456789"), "a transaction's id", id);
  DeletePace pace;
  pace.took(std::chrono::milliseconds(50), report.wal_bytes);
  demand(pace.rows() >= 1, "a row at least", "");
}

void leftovers(const pg::Row& row) {
  const Leftovers leftovers = read_leftovers(row);
  demand_amount(leftovers.bytes, "bytes of leftovers");
  demand_amount(leftovers.log_bytes, "bytes of a log");
  demand(leftovers.any() == !describe_leftovers(leftovers).empty(), "leftovers in words", "");
  demand(!describe_what_stays(row).empty(), "what stays in words", "");
}

void others(const pg::Row& row) {
  fuzz::demand_a_line(read_holder(row).who);
  const std::string behind = too_far_behind({read_wal_reader(row)}, {});
  if (!behind.empty()) fuzz::demand_a_line(behind);
}

void index(const pg::Row& row) {
  const auto index = read_index_bloat(fuzz::renamed(row, {{"index_rows", "rows"}}));
  if (!index) return;
  demand_amount(index->bytes, "an index");
  demand_amount(index->compact_bytes, "an index afresh");
}

void progress(const pg::Row& row) {
  const auto share = share_of_statement(
      {row.text("phase"), row.flag("concurrently"), row.number("read"), row.number("made")});
  demand(!share || (*share >= 0 && *share <= 1), "a share", "");
}

/// One can be read where another can't.
void read(const pg::Row& row, bool all) {
  for (const auto& reader :
       {state, copied, drained, compared, batch, leftovers, others, index, progress})
    try {
      reader(row);
    } catch (const std::runtime_error& error) {  // text of another type, or a number that can't be
      demand(!all, "a healthy row is read", error.what());
    }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  read(server_rows::of_cleanup(), true);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static const pg::Row healthy = server_rows::of_cleanup();
  const std::string_view text = fuzz::text_of(data, size);
  read(fuzz::changed(healthy, text), false);
  read_report({std::string(pg::kReportMark) + std::string(text)});
  return 0;
}
