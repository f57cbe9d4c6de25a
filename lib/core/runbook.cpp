// The titles are read by the test that compares them with the page.
#include "core/runbook.hpp"

#include <fmt/format.h>

namespace django_session {

std::string_view title(RunbookSection section) {
  switch (section) {
    case RunbookSection::expired:
      return "Expired sessions";
    case RunbookSection::free_space:
      return "Free space in the table";
    case RunbookSection::dead_rows:
      return "Dead rows";
    case RunbookSection::index_bloat:
      return "Half-empty indexes";
    case RunbookSection::overdue:
      return "Nothing deletes expired sessions";
    case RunbookSection::large:
      return "A large table";
    case RunbookSection::locked:
      return "The table is locked";
    case RunbookSection::interrupted_swap:
      return "An interrupted swap";
    case RunbookSection::invalid_index:
      return "An index that is not valid";
    case RunbookSection::missing_index:
      return "No index on expire_date";
    case RunbookSection::missing_right:
      return "A right is missing";
    case RunbookSection::no_statistics:
      return "No statistics";
    case RunbookSection::counters:
      return "Counters that are wrong";
    case RunbookSection::hidden_space:
      return "Free space is hidden";
    case RunbookSection::standby:
      return "On a standby";
    case RunbookSection::unknown_value:
      return "A value is unknown";
    case RunbookSection::password:
      return "Cannot connect: password";
    case RunbookSection::peer:
      return "Cannot connect: peer";
    case RunbookSection::no_entry:
      return "Cannot connect: pg_hba.conf";
    case RunbookSection::no_role:
      return "Cannot connect: no such role";
    case RunbookSection::no_connect_right:
      return "Cannot connect: CONNECT is missing";
    case RunbookSection::no_database:
      return "Cannot connect: no such database";
    case RunbookSection::no_connection_left:
      return "Cannot connect: no connection left";
    case RunbookSection::starting:
      return "Cannot connect: starting or stopping";
    case RunbookSection::no_answer:
      return "Cannot connect: no answer";
    case RunbookSection::tls:
      return "Cannot connect: TLS";
    case RunbookSection::kind_of_server:
      return "Cannot connect: not the kind of server";
    case RunbookSection::no_service:
      return "Cannot connect: no such service";
    case RunbookSection::no_host:
      return "Cannot connect: unknown host";
    case RunbookSection::other_login:
      return "Cannot connect: another reason";
    case RunbookSection::timed_out:
      return "Timed out";
    case RunbookSection::no_table:
      return "No such table";
    case RunbookSection::options:
      return "Wrong options";
    case RunbookSection::other_error:
      break;
  }
  return "Another error";
}

RunbookSection runbook_section(Metric metric) {
  switch (metric) {
    case Metric::expired:
    case Metric::expired_percent:
      return RunbookSection::expired;
    case Metric::reclaimable:
      return RunbookSection::free_space;
    case Metric::dead:
      return RunbookSection::dead_rows;
    case Metric::overdue:
      return RunbookSection::overdue;
    case Metric::database:
    case Metric::database_percent:
    case Metric::total:
    case Metric::table:
    case Metric::toast:
    case Metric::indexes:
    case Metric::live:
      break;
  }
  return RunbookSection::large;
}

std::string runbook_line(RunbookSection section) {
  return fmt::format("Runbook: man 7 django_session, section \"{}\"", title(section));
}

}  // namespace django_session
