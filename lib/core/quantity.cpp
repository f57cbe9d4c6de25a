// Reading and writing quantities, the same in every locale.
#include "core/quantity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>
#include <system_error>

#include "core/config_error.hpp"

namespace django_session {
namespace {

constexpr double kKilo = 1024, kMega = kKilo * kKilo, kGiga = kMega * kKilo, kTera = kGiga * kKilo,
                 kPeta = kTera * kKilo;
constexpr double kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour, kWeek = 7 * kDay;

// Reading

struct Suffix {
  std::string_view name;  ///< in lower case
  double factor;
};

constexpr std::array<Suffix, 14> kByteSuffixes = {{{"", 1},
                                                   {"b", 1},
                                                   {"k", kKilo},
                                                   {"kb", kKilo},
                                                   {"kib", kKilo},
                                                   {"m", kMega},
                                                   {"mb", kMega},
                                                   {"mib", kMega},
                                                   {"g", kGiga},
                                                   {"gb", kGiga},
                                                   {"gib", kGiga},
                                                   {"t", kTera},
                                                   {"tb", kTera},
                                                   {"tib", kTera}}};
constexpr std::array<Suffix, 6> kDurationSuffixes = {
    {{"", 1}, {"s", 1}, {"m", kMinute}, {"h", kHour}, {"d", kDay}, {"w", kWeek}}};
constexpr std::array<Suffix, 2> kPercentSuffixes = {{{"", 1}, {"%", 1}}};
constexpr std::array<Suffix, 1> kRowSuffixes = {{{"", 1}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// How many bytes of `text` are `-`, digits, `.`, digits with a digit somewhere; 0 if it doesn't
/// start so.
std::size_t number_length(std::string_view text) {
  std::size_t position = 0;
  std::size_t digits = 0;
  const auto skip_digits = [&] {
    for (; position < text.size() && is_digit(text[position]); ++position) ++digits;
  };
  if (text.substr(0, 1) == "-") ++position;
  skip_digits();
  if (text.substr(position, 1) == ".") ++position;
  skip_digits();
  return digits > 0 ? position : 0;
}

std::optional<double> factor_of(std::string_view suffix, std::span<const Suffix> suffixes) {
  std::string lower(suffix);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  const auto found = std::find_if(suffixes.begin(), suffixes.end(),
                                  [&](const Suffix& s) { return s.name == lower; });
  if (found == suffixes.end()) return std::nullopt;
  return found->factor;
}

// Writing

/// A unit for people. The first one in which the rounded number stays below `limit` is taken.
struct Scale {
  double size;
  std::string_view name;
  double limit;
  double decimals_below;  ///< one decimal is shown below this, none from here on
};

constexpr double kNoLimit = HUGE_VAL;
constexpr std::array<Scale, 6> kByteScales = {{{1, " bytes", 10 * kKilo, 0},  // as pg_size_pretty
                                               {kKilo, " kB", kKilo, 100},
                                               {kMega, " MB", kKilo, 100},
                                               {kGiga, " GB", kKilo, 100},
                                               {kTera, " TB", kKilo, 100},
                                               {kPeta, " PB", kNoLimit, 100}}};
constexpr std::array<Scale, 5> kRowScales = {{{1, "", 1e3, 0},
                                              {1e3, "k", 1e3, 100},
                                              {1e6, "M", 1e3, 100},
                                              {1e9, "G", 1e3, 100},
                                              {1e12, "T", kNoLimit, 100}}};
constexpr std::array<Scale, 4> kDurationScales = {{{1, " s", 60, 10},
                                                   {kMinute, " min", 60, 10},
                                                   {kHour, " h", 48, 10},
                                                   {kDay, " d", kNoLimit, 10}}};

double to_tenths(double value) {
  const double tenths = std::round(value * 10) / 10;
  return std::isfinite(tenths) ? tenths : value;
}

double rounded(double value, double decimals_below) {
  const double tenths = to_tenths(value);
  return std::abs(tenths) < decimals_below ? tenths : std::round(value);
}

/// With one decimal unless that is zero; never "-0".
std::string number(double value) {
  if (value == 0) return "0";
  return value == std::trunc(value) ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

std::string scaled(double value, std::span<const Scale> scales) {
  for (const Scale& scale : scales) {
    const double in_unit = rounded(value / scale.size, scale.decimals_below);
    if (std::abs(in_unit) < scale.limit) return number(in_unit).append(scale.name);
  }
  return "unknown";  // not finite
}

/// Next to 0 and 100 a rounded number would hide that there is something, or something left.
std::string percentage(double value) {
  const double size = std::abs(value);
  const double tenths = to_tenths(value);
  if (0 < size && size < 0.1) return value < 0 ? "-0.1%" : "0.1%";
  if (99.9 < value && value < 100) return "99.9%";
  return number(std::abs(tenths) < 10 || size > 99 ? tenths : std::round(value)) + "%";
}

std::string size_text(double value) { return scaled(value, kByteScales); }
std::string rows_text(double value) { return scaled(value, kRowScales); }
std::string duration_text(double value) { return scaled(value, kDurationScales); }

// The table of units

struct UnitRules {
  UnitInfo info;
  std::string_view allowed;  ///< what may follow the number
  std::span<const Suffix> suffixes;
  std::string (*text)(double value);  ///< for people
};

constexpr std::array<UnitRules, 4> kUnits = {{
    {{Unit::bytes, "bytes", "B", "a size", "1.25GB", "a range of sizes", "1GB:5GB"},
     "a size is in bytes, or ends in kB, MB, GB or TB",
     kByteSuffixes,
     size_text},
    {{Unit::rows, "rows", "", "a number of rows", "100000", "a range of rows", "1000:5000"},
     "a number of rows has no unit",
     kRowSuffixes,
     rows_text},
    {{Unit::percent, "percent", "%", "a percentage", "90%", "a range of percentages", "50%:90%"},
     "a percentage may end in one % only",
     kPercentSuffixes,
     percentage},
    {{Unit::seconds, "seconds", "s", "a duration", "2d", "a range of durations", "1h:2d"},
     "a duration is in seconds, or ends in s, m, h, d or w",
     kDurationSuffixes,
     duration_text},
}};

constexpr bool is_in_enum_order() {
  for (std::size_t i = 0; i < kUnits.size(); ++i)
    if (kUnits[i].info.unit != static_cast<Unit>(i)) return false;
  return true;
}
static_assert(is_in_enum_order(), "rules() indexes the table by the enum");

const UnitRules& rules(Unit unit) { return kUnits[static_cast<std::size_t>(unit)]; }

void strip_zero_decimals(std::string& digits) {
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
}

}  // namespace

std::variant<double, Fault> read_quantity(std::string_view text, Unit unit) {
  const std::size_t length = number_length(text);
  if (length == 0) return Fault{0, "expected a number"};
  double value = 0;
  const auto read =
      std::from_chars(text.data(), text.data() + length, value, std::chars_format::fixed);
  const std::optional<double> factor = factor_of(text.substr(length), rules(unit).suffixes);
  if (!factor) return Fault{length, std::string(rules(unit).allowed)};
  value *= *factor;
  if (read.ec != std::errc() || !std::isfinite(value))
    return Fault{0, "the number is out of range"};
  return value;
}

double parse_quantity(std::string_view text, Unit unit) {
  const auto read = read_quantity(text, unit);
  if (const Fault* fault = std::get_if<Fault>(&read))
    throw unreadable(text, fault->position, info(unit).quantity, fault->wrong,
                     info(unit).quantity_example);
  return std::get<double>(read);
}

const UnitInfo& info(Unit unit) { return rules(unit).info; }

std::string format_quantity(double value, Unit unit) {
  return std::isfinite(value) ? rules(unit).text(value) : "unknown";
}

std::string plain_number(double value, Unit unit) {
  if (!std::isfinite(value)) return "U";
  std::string digits;
  if (unit == Unit::percent) {
    digits = fmt::format("{:.2f}", value);
    strip_zero_decimals(digits);
  } else {
    digits = fmt::format("{:.0f}", std::round(value));
  }
  return digits == "-0" ? "0" : digits;
}

}  // namespace django_session
