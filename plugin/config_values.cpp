// The readers of single values.
#include "plugin/config_values.hpp"

#include <strings.h>

#include <cmath>

#include "core/quantity.hpp"

namespace django_session::plugin {
namespace {

constexpr double kDay = 86400;
constexpr double kLeastSeconds = 0.1;  // less could come out as 0 ms

}  // namespace

const ConfigItem::Value& only_value(const ConfigItem& item, std::string_view what) {
  if (!item.children.empty()) throw Wrong{fmt::format("is a block, but takes {}", what)};
  if (item.values.size() != 1)
    throw Wrong{fmt::format("takes {}, not {} values", what, item.values.size())};
  return item.values.front();
}

std::string text_of(const ConfigItem& item, std::string_view what, bool may_be_empty) {
  const auto* text = std::get_if<std::string>(&only_value(item, what));
  if (text == nullptr) throw Wrong{fmt::format("takes {}", what)};
  if (text->empty() && !may_be_empty) throw Wrong{fmt::format("is empty, but takes {}", what)};
  return *text;
}

bool boolean_of(const ConfigItem& item) {
  constexpr std::string_view kWhat = "true or false (or yes or no, on or off)";
  const ConfigItem::Value& value = only_value(item, kWhat);
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean;
  if (const auto* word = std::get_if<std::string>(&value)) {
    if (same_key(*word, "true") || same_key(*word, "yes") || same_key(*word, "on")) return true;
    if (same_key(*word, "false") || same_key(*word, "no") || same_key(*word, "off")) return false;
  }
  throw Wrong{fmt::format("takes {}", kWhat)};
}

double seconds_of(const ConfigItem& item) {
  constexpr std::string_view kWhat = "a number of seconds, for example 10";
  const auto* seconds = std::get_if<double>(&only_value(item, kWhat));
  if (seconds == nullptr) throw Wrong{fmt::format("takes {}, without quotes", kWhat)};
  if (!std::isfinite(*seconds) || *seconds < kLeastSeconds || *seconds > kDay)
    throw Wrong{fmt::format("must be between {} and {} seconds", kLeastSeconds, kDay)};
  return *seconds;
}

double duration_of(const ConfigItem& item, double least, double most) {
  constexpr std::string_view kWhat = "a duration, for example 3600 or \"1h\"";
  const ConfigItem::Value& value = only_value(item, kWhat);
  double seconds = 0;
  if (const auto* number = std::get_if<double>(&value)) {
    seconds = *number;
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    seconds = parse_quantity(*text, Unit::seconds);
  } else {
    throw Wrong{fmt::format("takes {}", kWhat)};
  }
  if (!std::isfinite(seconds) || seconds < least || seconds > most)
    throw Wrong{fmt::format("must be between {} and {}", format_quantity(least, Unit::seconds),
                            format_quantity(most, Unit::seconds))};
  return seconds;
}

std::vector<std::string> texts_of(const ConfigItem& item, std::string_view what) {
  if (!item.children.empty()) throw Wrong{fmt::format("is a block, but takes {}", what)};
  std::vector<std::string> texts;
  for (const ConfigItem::Value& value : item.values) {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) throw Wrong{fmt::format("takes {}", what)};
    texts.push_back(*text);
  }
  if (texts.empty()) throw Wrong{fmt::format("has no value, but takes {}", what)};
  return texts;
}

bool same_key(std::string_view one, std::string_view other) {
  return one.size() == other.size() && strncasecmp(one.data(), other.data(), one.size()) == 0;
}

}  // namespace django_session::plugin
