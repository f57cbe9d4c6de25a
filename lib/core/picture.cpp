// Values as people read them.
#include "core/picture.hpp"

#include <fmt/format.h>

#include "core/quantity.hpp"

namespace django_session {

std::string show(const MetricValue& value, Unit unit) {
  if (!value.number) return "unknown";
  const std::string number = format_quantity(*value.number, unit);
  switch (value.certainty) {
    case Certainty::estimated:
      return fmt::format("~{}", number);
    case Certainty::at_least:
      return "at least " + number;
    case Certainty::exact:
      break;
  }
  return number;
}

std::string short_name(const SessionTable& table) {
  return table.schema == "public" ? table.name : table.full_name();
}

std::string size_in_words(std::string_view name, const Measurement& m, const MetricValues& values) {
  const MetricValue& total = values[Metric::total];
  return fmt::format("{}{} {}", name, m.locked ? " (locked)" : "",
                     total.number ? show(total, Unit::bytes) : "of unknown size");
}

std::string sessions_in_words(const Measurement& m, const MetricValues& values) {
  const auto& live = values[Metric::live].number;
  const auto& expired = values[Metric::expired].number;
  if (!live || !expired) return "sessions unknown";
  if (*live + *expired < 1) return "no sessions";
  return fmt::format("{} of {} sessions expired{}",
                     show(values[Metric::expired_percent], Unit::percent),
                     show({*live + *expired, Certainty::exact, ""}, Unit::rows),
                     m.not_counted.empty() ? "" : " (not counted)");
}

}  // namespace django_session
