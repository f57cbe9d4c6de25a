// Written in full, then with less and less detail until it fits.
#include "check_first_line.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "core/picture.hpp"
#include "core/quantity.hpp"
#include "line_text.hpp"

namespace django_session::nagios {
namespace {

constexpr std::size_t kAllParts = 8;
constexpr std::size_t kShortName = 24;   // characters of a table's or database's name
constexpr std::size_t kLongName = 1000;  // never reached

bool decides(const Judgement& judgement, Metric metric) {
  return std::find(judgement.deciding.begin(), judgement.deciding.end(), metric) !=
         judgement.deciding.end();
}

/// "reclaimable ~12.5 GB"; metrics that are unknown for the same reason share an entry.
std::vector<std::string> deciding_entries(const Measurement& m, const MetricValues& values,
                                          const Judgement& judgement) {
  std::vector<std::string> entries;
  if (site_stands_still(m))
    entries.push_back(fmt::format("sessions can't be read or saved for {}{}",
                                  format_quantity(*m.lock.waited, Unit::seconds),
                                  m.lock.head.empty() ? "" : ", behind " + m.lock.head));
  else if (m.locked && judgement.state != State::ok && !m.lock.head.empty())
    entries.push_back((m.lock.waited ? "all wait behind " : "locked by ") + m.lock.head);
  if (swap_was_abandoned(m)) entries.emplace_back("an interrupted swap was left behind");
  std::vector<Metric> open = judgement.deciding;
  while (!open.empty()) {
    const MetricValue& value = values[open.front()];
    if (value.number) {
      entries.push_back(
          fmt::format("{} {}", info(open.front()).name, show(value, info(open.front()).unit)));
      open.erase(open.begin());
      continue;
    }
    std::vector<std::string_view> names;
    for (const Metric metric : open)
      if (!values[metric].number && values[metric].reason == value.reason)
        names.push_back(info(metric).name);
    entries.push_back(fmt::format("{} unknown ({})", fmt::join(names, ", "), value.reason));
    std::erase_if(open, [&](Metric metric) {
      return !values[metric].number && values[metric].reason == value.reason;
    });
  }
  return entries;
}

std::string decision(const std::vector<std::string>& entries, std::size_t count) {
  std::string text = fmt::format(
      "{}", fmt::join(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count), ", "));
  if (const std::size_t left = entries.size() - count; left > 0)
    text += fmt::format(", {} more reason{}", left, left == 1 ? "" : "s");
  return text;
}

/// What is worth knowing besides the size, the most important first.
std::vector<std::string> picture_parts(const Measurement& m, const MetricValues& values,
                                       const Judgement& judgement) {
  std::vector<std::string> parts = {sessions_in_words(m, values)};
  const MetricValue& overdue = values[Metric::overdue];
  if (overdue.number && *overdue.number > 0 && !decides(judgement, Metric::overdue))
    parts.push_back("overdue " + show(overdue, Unit::seconds));
  return parts;
}

struct Detail {
  std::size_t name_limit, parts;
};

std::string picture(const Measurement& m, const MetricValues& values,
                    const std::vector<std::string>& parts, Detail detail) {
  std::string text = size_in_words(shorten(short_name(m.table), detail.name_limit), m, values);
  if (detail.parts == 0) return text;
  if (values[Metric::database_percent].number)
    text += fmt::format(" ({} of {})", show(values[Metric::database_percent], Unit::percent),
                        shorten(m.table.database, detail.name_limit));
  for (std::size_t i = 0; i < std::min(parts.size(), detail.parts - 1); ++i)
    text += ", " + parts[i];
  return text;
}

/// Less and less detail; the last is the table's name and size alone.
std::vector<Detail> details(std::size_t parts) {
  std::vector<Detail> list = {{kLongName, kAllParts}, {kShortName, kAllParts}};
  for (std::size_t count = parts + 1; count-- > 0;) list.push_back({kShortName, count});
  return list;
}

}  // namespace

std::string first_line(const Measurement& m, const MetricValues& values,
                       const Judgement& judgement) {
  const std::string state = fmt::format("DJANGO_SESSION {} - ", state_name(judgement.state));
  const auto entries = deciding_entries(m, values, judgement);
  const auto parts = picture_parts(m, values, judgement);
  std::string line;
  const auto fits = [&](std::size_t entry_count, Detail detail) {
    line = state + decision(entries, entry_count) + (entries.empty() ? "" : ": ") +
           picture(m, values, parts, detail);
    line = plain_line(line);
    return character_count(line) <= kLongestFirstLine;
  };
  for (const Detail detail : details(parts.size()))
    if (fits(entries.size(), detail)) return line;
  for (std::size_t count = entries.size(); count > 1;)
    if (fits(--count, {kShortName, 0})) return line;
  if (entries.empty()) return shorten(line, kLongestFirstLine);
  return shorten(plain_line(state + (m.locked ? "locked, " : "") + decision(entries, 1)),
                 kLongestFirstLine);
}

}  // namespace django_session::nagios
