// A reading's two halves and its log lines.
#include "plugin/reader.hpp"

#include <fmt/format.h>

#include <exception>
#include <set>
#include <utility>

#include "core/picture.hpp"

namespace django_session::plugin {
namespace {

/// Why metrics are unknown, each reason once.
std::string reasons_of(const Findings& findings) {
  std::set<std::string> reasons;
  for (const MetricInfo& metric : all_metrics()) {
    const MetricValue& value = findings.values[metric.metric];
    if (!value.number) reasons.insert(value.reason);
  }
  std::string text;
  for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
  return text;
}

/// A server that hangs lets a kept connection wait for its answer and then a new one for its
/// beginning: one cause. One that can't even be looked up is another.
std::string outage_cause(const pg::Error& error) {
  const std::string_view message = error.what();
  if (error.kind() == pg::Error::Kind::timeout && !error.looked_up_too_long())
    return "no answer in time";
  return cause_of(message);
}

/// Without the list of the session tables that there are instead.
std::string missing_table_cause(const sessions::NoSuchTable& error) {
  const std::string_view message = error.what();
  return cause_of(message.substr(0, message.find(';')));
}

}  // namespace

Reader::Reader(const DatabaseSettings& settings)
    : instance_(settings.instance),
      timeout_(settings.timeout()),
      probe_(settings.connection, settings.table,
             settings.exact ? sessions::Counting::exact : sessions::Counting::calibrate) {}

bool Reader::read(const Output& output) {
  began_ = Output::Clock::now();
  const auto started = std::chrono::steady_clock::now();
  bool up = true;
  try {
    measure(output, pg::Deadline::after(timeout_));
    note_outage("", "", output);
  } catch (const sessions::NoSuchTable& error) {
    note_outage(missing_table_cause(error), error.what(), output);
  } catch (const pg::Error& error) {
    up = error.kind() == pg::Error::Kind::statement && !error.statement_timed_out();
    note_outage(outage_cause(error), error.what(), output);
  } catch (const std::exception& error) {
    up = false;
    const std::string trouble = fmt::format("the reading failed: {}", error.what());
    note_outage(cause_of(trouble), trouble, output);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  output.dispatch(
      {sample_of(PluginValue::up, up ? 1 : 0), sample_of(PluginValue::reading_time, took.count())},
      began_);
  return up;
}

void Reader::fail(const std::string& trouble, const Output& output) {
  note_outage(cause_of(trouble), trouble, output);
  output.dispatch({sample_of(PluginValue::up, 0)}, Output::Clock::now());
}

void Reader::measure(const Output& output, pg::Deadline deadline) {
  sessions::Reckoned reckoned = probe_.measure(deadline);
  output.dispatch(samples_of(reckoned.measurement, reckoned.findings), began_);
  probe_.measure_database(reckoned, deadline);
  output.dispatch(database_samples_of(reckoned.findings), began_);
  note_first(reckoned, output);
  if (!reckoned.measurement.locked) note_unknowns(reckoned.findings, output);
  note_abandoned_swap(swap_was_abandoned(reckoned.measurement), output);
}

/// For a person who has just configured it: that it works, for which table, and as which role.
void Reader::note_first(const sessions::Reckoned& reckoned, const Output& output) {
  if (std::exchange(has_measured_, true)) return;
  const Measurement& m = reckoned.measurement;
  const MetricValues& values = reckoned.findings.values;
  output.log(LogLevel::notice, fmt::format("{}: first reading: {}, {} (reads as {})", instance_,
                                           size_in_words(short_name(m.table), m, values),
                                           sessions_in_words(m, values), m.table.role));
}

void Reader::note_unknowns(const Findings& findings, const Output& output) {
  const auto line = unknowns_.next(reasons_of(findings), std::chrono::steady_clock::now());
  if (line)
    output.log(line->is_warning ? LogLevel::warning : LogLevel::notice,
               fmt::format("{}: {}", instance_, line->text));
}

void Reader::note_abandoned_swap(bool abandoned, const Output& output) {
  if (abandoned == swap_abandoned_) return;
  swap_abandoned_ = abandoned;
  if (abandoned)
    output.log(LogLevel::warning,
               fmt::format("{}: an interrupted swap left triggers whose log grows: run it again "
                           "with the same --keep, or run django_session_cleanup --abort",
                           instance_));
}

void Reader::note_outage(const std::string& cause, const std::string& trouble,
                         const Output& output) {
  const auto line = outages_.next(cause, trouble, std::chrono::steady_clock::now());
  if (line)
    output.log(line->is_error ? LogLevel::error : LogLevel::notice,
               fmt::format("{}: {}", instance_, line->text));
}

}  // namespace django_session::plugin
