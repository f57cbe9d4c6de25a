// Quantities as people and machines write them: bytes, rows, percent, durations.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

#include "core/metric.hpp"

namespace django_session {

/// Reads a quantity of the given unit from the whole of `text`; a leading '-' is allowed, blanks
/// are not.
///   - bytes: a number, optionally with kB MB GB TB, k M G T or KiB MiB GiB TiB in any case, or B;
///     powers of 1024
///   - seconds: a number of seconds, or with s m h d w
///   - percent: a number, optionally with %
///   - rows: a plain number
/// Decimals are allowed ("1.25GB"), exponents are not. Returns base units (bytes, seconds...).
/// Throws ConfigError with the text, the place and an example.
double parse_quantity(std::string_view text, Unit unit);

/// What is wrong with a text, and at which byte.
struct Fault {
  std::size_t position;
  std::string wrong;
};

/// As parse_quantity, for a quantity that is a part of a longer text.
std::variant<double, Fault> read_quantity(std::string_view text, Unit unit);

/// A unit in the words of messages, `--help` and perfdata.
struct UnitInfo {
  Unit unit;
  std::string_view name;      ///< "bytes", "seconds"
  std::string_view perfdata;  ///< Nagios' unit of measurement: "B", "s", "%", or "" for rows
  std::string_view quantity, quantity_example;  ///< "a size", "1.25GB"
  std::string_view range, range_example;        ///< "a range of sizes", "1GB:5GB"
};
const UnitInfo& info(Unit unit);

/// For people, in PostgreSQL's units: "8192 bytes", "12.5 GB", "276 MB"; "4.1M", "97%", "730 d",
/// "1.5 h". Only 0% and 100% are shown as such: 99.97% is "99.9%". A number that isn't finite is
/// "unknown".
std::string format_quantity(double value, Unit unit);

/// For perfdata, without the unit: whole bytes, rows and seconds, percent with at most two
/// decimals; C locale, no exponent, no grouping; Nagios' "U" for a number that isn't finite.
std::string plain_number(double value, Unit unit);

}  // namespace django_session
