// Reading and writing Nagios ranges.
#include "core/range.hpp"

#include <fmt/format.h>

#include <optional>

#include "core/config_error.hpp"
#include "core/quantity.hpp"

namespace django_session {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class RangeText {
 public:
  RangeText(std::string_view text, Unit unit) : text_(text), unit_(unit) {}

  Range read() const {
    Range range;
    range.alert_inside = text_.substr(0, 1) == "@";
    const std::size_t begin = range.alert_inside ? 1 : 0;
    const std::size_t colon = text_.find(':', begin);
    if (begin == text_.size()) throw refused(begin, "a number is missing");
    if (colon == std::string_view::npos) {
      range.end = quantity(begin, text_.size());
    } else {
      if (begin + 1 == text_.size())
        throw refused(begin, "a ':' needs a number before or after it");
      if (colon > begin) range.start = start(begin, colon);
      if (colon + 1 < text_.size()) range.end = quantity(colon + 1, text_.size());
    }
    check_order(range, colon == std::string_view::npos ? begin : colon + 1);
    return range;
  }

 private:
  double start(std::size_t begin, std::size_t end) const {
    return text_.substr(begin, end - begin) == "~" ? -kInfinity : quantity(begin, end);
  }

  double quantity(std::size_t begin, std::size_t end) const {
    const auto read = read_quantity(text_.substr(begin, end - begin), unit_);
    if (const Fault* fault = std::get_if<Fault>(&read))
      throw refused(begin + fault->position, why(begin + fault->position, fault->wrong));
    return std::get<double>(read);
  }

  /// The usual slips deserve a better word than that a number or a unit is wrong.
  std::string why(std::size_t position, const std::string& wrong) const {
    const std::string_view rest = text_.substr(position);
    if (rest.empty()) return wrong;
    if (rest.front() == '-' && position > 0 && rest.size() > 1)
      return "start and end are separated by ':'";
    if (rest.front() == '~') return "'~' is allowed only before the ':'";
    if (rest.front() == '@') return "'@' is allowed only at the beginning";
    if (rest.find(':') != std::string_view::npos && text_.find(':') < position)
      return "a range has only one ':'";
    return wrong;
  }

  void check_order(const Range& range, std::size_t end_position) const {
    if (range.start <= range.end) return;
    throw refused(end_position,
                  fmt::format("the start, {}, is above the end, {}",
                              plain_number(range.start, unit_), plain_number(range.end, unit_)));
  }

  ConfigError refused(std::size_t position, std::string_view wrong) const {
    return unreadable(text_, position, info(unit_).range, wrong, info(unit_).range_example);
  }

  std::string_view text_;
  Unit unit_;
};

}  // namespace

Range parse_range(std::string_view text, Unit unit) { return RangeText(text, unit).read(); }

std::string perfdata_range(const Range& range, Unit unit) {
  const std::string start = range.start == -kInfinity ? "~" : plain_number(range.start, unit);
  const std::string end = range.end == kInfinity ? "" : plain_number(range.end, unit);
  const std::string at = range.alert_inside ? "@" : "";
  if (start == "0" && !end.empty()) return at + end;
  return at + start + ":" + end;
}

}  // namespace django_session
