// Reading the answers: text to numbers, flags and arrays.
#include "pg/rows.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace django_session::pg {
namespace {

double number_from(std::string_view text, const std::string& column) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end)
    throw std::runtime_error(fmt::format("column {} is not a number", column));
  return value;
}

Oid oid_from(double value, const std::string& column) {
  if (!(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max()))
    throw std::runtime_error(fmt::format("column {} is not an OID", column));
  return Oid(static_cast<std::uint32_t>(value));
}

double checked(double value, const std::string& column, Bounds within) {
  if (!within.contain(value))
    throw std::runtime_error(fmt::format("column {} is out of range", column));
  return value;
}

}  // namespace

const std::optional<std::string>& Row::optional_text(const std::string& column) const {
  const auto found = columns_.find(column);
  if (found == columns_.end()) throw std::out_of_range(fmt::format("no column {}", column));
  return found->second;
}

std::string Row::text(const std::string& column) const {
  return optional_text(column).value_or("");
}

std::optional<double> Row::number(const std::string& column) const {
  const auto& value = optional_text(column);
  if (!value) return std::nullopt;
  return number_from(*value, column);
}

std::optional<double> Row::number(const std::string& column, Bounds within) const {
  const auto value = number(column);
  return value ? std::optional(checked(*value, column, within)) : std::nullopt;
}

bool Row::flag(const std::string& column) const { return text(column) == "t"; }

Oid Row::oid(const std::string& column) const {
  return oid_from(number(column).value_or(0), column);
}

std::vector<Oid> Row::oids(const std::string& column) const {
  std::vector<Oid> oids;
  for (const double value : numbers(column)) oids.push_back(oid_from(value, column));
  return oids;
}

std::vector<double> Row::numbers(const std::string& column) const {
  std::vector<double> values;
  const std::string& array = text(column);
  if (array.size() <= 2) return values;  // NULL or "{}"
  std::string_view rest = std::string_view(array).substr(1, array.size() - 2);
  for (;;) {
    const auto comma = rest.find(',');
    values.push_back(number_from(rest.substr(0, comma), column));
    if (comma == std::string_view::npos) return values;
    rest.remove_prefix(comma + 1);
  }
}

std::vector<double> Row::numbers(const std::string& column, Bounds within) const {
  std::vector<double> values = numbers(column);
  for (const double value : values) checked(value, column, within);
  return values;
}

std::vector<std::string> Row::lines(const std::string& column) const {
  std::vector<std::string> result;
  std::istringstream stream(text(column));
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

}  // namespace django_session::pg
