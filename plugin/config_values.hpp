// collectd's configuration as data, and how options are read from it: what each takes, and what is
// said when it gets something else. Pure.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/config_error.hpp"

namespace django_session::plugin {

/// One line or block of the configuration: `Key value ...` with what is inside.
struct ConfigItem {
  using Value = std::variant<std::string, double, bool>;
  std::string key;
  std::vector<Value> values;
  std::vector<ConfigItem> children;
};

/// What is wrong with an option's value, to be put after the option's name: "takes true or false".
struct Wrong {
  std::string text;
};

inline constexpr std::string_view kOneText = "one text in quotes";

// All throw Wrong.
const ConfigItem::Value& only_value(const ConfigItem& item, std::string_view what);
std::string text_of(const ConfigItem& item, std::string_view what = kOneText,
                    bool may_be_empty = false);
/// true or false, yes or no, on or off. To collectd's parser only the small, unquoted words are
/// booleans, and it hands on TRUE or "true" as texts; its own plugins take those too.
bool boolean_of(const ConfigItem& item);
/// A number of seconds, from 0.1 up to a day.
double seconds_of(const ConfigItem& item);
/// A number of seconds or, in quotes, a number with s, m, h, d or w: 3600 or "1h".
double duration_of(const ConfigItem& item, double least, double most);
/// Texts, one or more.
std::vector<std::string> texts_of(const ConfigItem& item, std::string_view what);

enum class Times {
  once,
  repeated,
  block,  ///< once; its own messages say where they come from
};

/// An option of a block: its name, how often it may stand there, and what it does to the settings.
template <class Settings>
struct Option {
  std::string_view name;
  void (*apply)(const ConfigItem& item, Settings& settings);
  Times times = Times::once;
};

bool same_key(std::string_view one, std::string_view other);  ///< collectd's count in any case

/// Reads what stands in a block. Throws ConfigError that begins with `title` (`<Database "site">`)
/// and names the option.
template <class Settings, std::size_t count>
void read_options(const ConfigItem& block, const std::string& title,
                  const std::array<Option<Settings>, count>& options, Settings& settings) {
  std::set<const Option<Settings>*> seen;
  for (const ConfigItem& item : block.children) {
    const auto option = std::find_if(options.begin(), options.end(), [&](const auto& candidate) {
      return same_key(candidate.name, item.key);
    });
    const bool known = option != options.end();
    try {
      if (!known) {
        std::string names;
        for (const auto& each : options) names.append(names.empty() ? "" : ", ").append(each.name);
        throw Wrong{"is not a valid option; valid options are " + names};
      }
      if (!seen.insert(&*option).second && option->times != Times::repeated)
        throw Wrong{"may be given only once"};
      option->apply(item, settings);
    } catch (const Wrong& wrong) {
      throw ConfigError(fmt::format("{}: {} {}", title, item.key, wrong.text));
    } catch (const ConfigError& error) {
      if (known && option->times == Times::block)
        throw ConfigError(fmt::format("{}: {}", title, error.what()));
      throw ConfigError(fmt::format("{}: {}: {}", title, item.key, error.what()));
    }
  }
}

}  // namespace django_session::plugin
