// A swap that lives has a state whose lease has not run out, and a backend; or its copy or its log
// is being vacuumed or analyzed, which doesn't renew the lease.
#include "cleanup/living_swap.hpp"

#include <fmt/format.h>

#include "cleanup/as_owner.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/swap.hpp"
#include "cleanup/swap_sql.hpp"
#include "measure/catalog_query.hpp"

namespace django_session::sessions {
namespace {

// {0} the table's OID.
constexpr const char* kHasState = R"(
SELECT EXISTS (SELECT FROM pg_class s JOIN pg_class t ON t.oid = {0} AND t.relowner = s.relowner
               WHERE s.relname = 'djs_{0}_state' AND s.relnamespace = t.relnamespace
                 AND s.relkind = 'r') AS found;
)";

class LivingSwap {
 public:
  LivingSwap(pg::Connection& connection, const CleanupTarget& target, const DeleteAccess& access,
             const CleanupOptions& options)
      : connection_(connection), target_(target), access_(access), options_(options) {}

  bool lives() {
    if (!ask_catalog(connection_, fmt::format(kHasState, target_.oid), soon())
             .front()
             .flag("found"))
      return false;
    try {
      return access_.way == DeleteAccess::Way::function ? by_the_function() : by_its_state();
    } catch (const pg::Error& error) {
      if (error.kind() != pg::Error::Kind::statement) throw;
      connection_.finish(soon());
      return error.lock_not_available();  // it has the state's lock; else it has just ended
    }
  }

 private:
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  void send(const std::string& message) {
    connection_.send(message, soon());
    rows_.clear();
    while (auto rows = connection_.next_rows(soon()))
      for (const pg::Row& row : *rows) rows_.push_back(row);
  }

  bool by_its_state() {
    SwapNames names;
    names.oid = target_.oid;
    names.schema = connection_.identifier(target_.schema);
    names.table = target_.sql_name;
    names.owner = access_.owner;
    names.run_id = new_run_id();
    send(read_state_sql(names, {options_.lock_timeout, options_.answer_timeout}));
    const pg::Row row = report_of(connection_);
    if (!row.has("lease")) return false;
    return row.flag("is_vacuumed") ||
           (row.number("lease").value_or(0) > 0 && !row.flag("backend_gone"));
  }

  bool by_the_function() {
    const BatchOrder nothing{"-infinity", "-infinity", 0, {}, {}, false};
    send(batch_sql(connection_, target_, access_, nothing,
                   {options_.lock_timeout, options_.answer_timeout}, ""));
    return !rows_.empty() && rows_.back().has("seen") && read_batch_report(rows_.back()).swap_lives;
  }

  pg::Connection& connection_;
  const CleanupTarget& target_;
  const DeleteAccess& access_;
  const CleanupOptions& options_;
  pg::Rows rows_;
};

}  // namespace

void stop_if_a_swap_lives(pg::Connection& connection, const CleanupTarget& target,
                          const DeleteAccess& access, const CleanupOptions& options) {
  if (LivingSwap(connection, target, access, options).lives())
    throw LeftToAnother("a swap of this table is under way; this cleanup would spoil its work");
}

}  // namespace django_session::sessions
