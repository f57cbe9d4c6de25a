// collectd's blocks. A line of the input is a line of the configuration: a key, and values after
// tabs: "text, #number, or true and false. `Cleanup` begins the inner block.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/config_error.hpp"
#include "demand.hpp"
#include "plugin/settings.hpp"

using namespace django_session;
using namespace django_session::plugin;

namespace {

constexpr std::string_view kPassword = "the-one-password";  // whatever the input has there

std::string_view next(std::string_view& rest, char separator) {
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

ConfigItem::Value value_of(std::string_view word) {
  if (word == "true" || word == "false") return word == "true";
  if (word.starts_with('#')) return std::strtod(std::string(word.substr(1)).c_str(), nullptr);
  return std::string(word.substr(word.starts_with('"')));
}

ConfigItem item_of(std::string_view line) {
  ConfigItem item;
  for (const char c : next(line, '\t'))
    if (c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
      item.key += c;  // collectd's parser takes no other
  while (!line.empty()) item.values.push_back(value_of(next(line, '\t')));
  if (same_key(item.key, "Password"))
    for (ConfigItem::Value& value : item.values)
      if (std::holds_alternative<std::string>(value)) value = std::string(kPassword);
  return item;
}

/// The first line is the block's own.
ConfigItem block_of(std::string_view text) {
  ConfigItem block = item_of(next(text, '\n'));
  ConfigItem* inner = &block;
  while (!text.empty()) {
    const ConfigItem item = item_of(next(text, '\n'));
    if (item.key == "Cleanup") {
      block.children.push_back({"Cleanup", item.values, {}});
      inner = &block.children.back();
    } else {
      inner->children.push_back(item);
    }
  }
  return block;
}

void demand_a_message(const std::string& message) {
  fuzz::demand_a_line(message);
  fuzz::demand(message.find(kPassword) == std::string::npos, "no password", message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const auto text = fuzz::text_of(data, size);
  if (text.find(kPassword) != std::string::npos) return 0;  // then it may stand elsewhere, too
  const ConfigItem block = block_of(text);
  try {
    const DatabaseSettings settings = read_database_block(block);
    fuzz::demand(settings.timeout().count() > 0, "a timeout", settings.instance);
    fuzz::demand_a_line(settings.instance);
    if (settings.cleanup)
      for (const std::string& warning : settings.cleanup->warnings) demand_a_message(warning);
  } catch (const ConfigError& refused) {
    demand_a_message(refused.what());
  }
  try {
    for (const ConfigItem& item : block.children) read_plugin_option(item);
  } catch (const ConfigError& refused) {
    demand_a_message(refused.what());
  }
  return 0;
}
