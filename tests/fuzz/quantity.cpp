// Quantities: the first byte chooses the unit, the rest is the text.
#include "core/quantity.hpp"

#include <cmath>
#include <iterator>

#include "core/config_error.hpp"
#include "demand.hpp"

using namespace django_session;

namespace {

/// What is accepted is finite, and what perfdata makes of it is a quantity again.
void check_value(double value, Unit unit, std::string_view text) {
  fuzz::demand(std::isfinite(value), "a finite number", text);
  fuzz::demand_a_line(format_quantity(value, unit));
  const std::string plain = plain_number(value, unit);
  fuzz::demand(plain_number(parse_quantity(plain, unit), unit) == plain, "the same again", plain);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr Unit kUnits[] = {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds};
  const Unit unit = kUnits[data[0] % std::size(kUnits)];
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  try {
    check_value(parse_quantity(text, unit), unit, text);
  } catch (const ConfigError& refused) {
    fuzz::demand_a_line(refused.what());
  }
  return 0;
}
