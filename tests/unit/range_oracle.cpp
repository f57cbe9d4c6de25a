// Shows on the command line what the library makes of ranges and perfdata, for comparison with
// other implementations. Reads lines with tabs from stdin: `RANGE VALUE` gives alert, ok or
// refused; `perfdata LABEL VALUE UNIT WARN CRIT` (UNIT: B, s, % or nothing) gives the entry, or
// refused.
#include <fmt/core.h>

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_error.hpp"
#include "core/perfdata.hpp"
#include "core/quantity.hpp"
#include "core/range.hpp"

namespace {

using namespace django_session;

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const std::size_t tab = line.find('\t');
    fields.push_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

Unit unit_of(std::string_view written) {
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds})
    if (info(unit).perfdata == written) return unit;
  throw ConfigError("no such unit");
}

std::string range_field(std::string_view text, Unit unit) {
  return text.empty() ? "" : perfdata_range(parse_range(text, unit), unit);
}

std::string answer(const std::vector<std::string_view>& fields) {
  if (fields.size() == 2) {
    const double value = parse_quantity(fields[1], Unit::rows);
    return parse_range(fields[0], Unit::rows).alerts(value) ? "alert" : "ok";
  }
  if (fields.size() != 6 || fields[0] != "perfdata") throw ConfigError("no such question");
  const Unit unit = unit_of(fields[3]);
  return perfdata_entry(fields[1], parse_quantity(fields[2], unit), unit,
                        range_field(fields[4], unit), range_field(fields[5], unit));
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      fmt::print("{}\n", answer(fields_of(line)));
    } catch (const ConfigError&) {
      fmt::print("refused\n");
    }
  }
  return 0;
}
