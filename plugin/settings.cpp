// The options, each with what it takes.
#include "plugin/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/printable.hpp"
#include "core/secret.hpp"

namespace django_session::plugin {
namespace {

// collectd's names have at most 127 bytes, and it cuts longer ones.
constexpr std::size_t kLongestInstance = 100;

std::string port_of(const ConfigItem& item) {
  constexpr std::string_view kWhat = "a port number from 1 to 65535, for example 5432";
  const ConfigItem::Value& value = only_value(item, kWhat);
  int port = 0;
  if (const auto* number = std::get_if<double>(&value)) {
    if (*number == std::floor(*number) && *number >= 1 && *number <= 65535)
      port = static_cast<int>(*number);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, port);
    if (error != std::errc() || stop != end) port = 0;
  }
  if (port < 1 || port > 65535) throw Wrong{fmt::format("takes {}", kWhat)};
  return std::to_string(port);
}

std::string ssl_mode_of(const ConfigItem& item) {
  constexpr std::array<std::string_view, 6> kModes = {"disable", "allow",     "prefer",
                                                      "require", "verify-ca", "verify-full"};
  constexpr std::string_view kWhat =
      "one of disable, allow, prefer, require, verify-ca, verify-full";
  const std::string mode = text_of(item, kWhat);
  if (std::find(kModes.begin(), kModes.end(), mode) == kModes.end())
    throw Wrong{fmt::format("takes {}", kWhat)};
  return mode;
}

std::string password_of(const ConfigItem& item) { return text_of(item, kOneText, true); }

std::string instance_of(const ConfigItem& item) {
  std::string instance = text_of(item, "a name");
  if (instance.size() > kLongestInstance)
    throw Wrong{fmt::format("has more than {} bytes", kLongestInstance)};
  return instance;
}

bool is_printable(const std::string& text) { return without_controls(text, '?') == text; }

std::size_t max_cleanups_of(const ConfigItem& item) {
  constexpr std::string_view kWhat = "a whole number from 1 to 1000, for example 1";
  constexpr double kMost = 1000;
  const auto* number = std::get_if<double>(&only_value(item, kWhat));
  if (number == nullptr || *number != std::floor(*number) || *number < 1 || *number > kMost)
    throw Wrong{fmt::format("takes {}", kWhat)};
  return static_cast<std::size_t>(*number);
}

/// libpq and the server repeat these in their messages.
std::string name_of(const ConfigItem& item) {
  std::string name = text_of(item);
  const bool secret =
      same_key(item.key, "Host") ? host_may_hold_password(name) : may_hold_password(name);
  if (secret)
    throw Wrong{
        "may hold a password (not repeated here); it takes only a name, and a password belongs in "
        "Password or PassFile"};
  return name;
}

/// What distinguishes one block from another of the same database: its Instance, as far as one is
/// given and fit to be shown.
std::string title_of(const ConfigItem& block, const std::string& database) {
  std::string title = fmt::format("<Database \"{}\">", without_controls(database, '?'));
  for (const ConfigItem& item : block.children) {
    const auto* name =
        item.values.size() == 1 ? std::get_if<std::string>(&item.values[0]) : nullptr;
    if (!same_key(item.key, "Instance") || name == nullptr || name->empty()) continue;
    if (name->size() > kLongestInstance || !is_printable(*name)) continue;
    return title + fmt::format(" (Instance \"{}\")", *name);
  }
  return title;
}

using Item = const ConfigItem&;

constexpr std::array<Option<PluginSettings>, 1> kPluginOptions = {{
    {"MaxCleanups", [](Item i, PluginSettings& s) { s.max_cleanups = max_cleanups_of(i); }},
}};

constexpr std::array<Option<DatabaseSettings>, 14> kOptions = {{
    {"Host", [](Item i, DatabaseSettings& s) { s.connection.host = name_of(i); }},
    {"Port", [](Item i, DatabaseSettings& s) { s.connection.port = port_of(i); }},
    {"User", [](Item i, DatabaseSettings& s) { s.connection.user = name_of(i); }},
    {"Password", [](Item i, DatabaseSettings& s) { s.connection.password = password_of(i); }},
    {"PassFile", [](Item i, DatabaseSettings& s) { s.connection.passfile = text_of(i); }},
    {"SSLMode", [](Item i, DatabaseSettings& s) { s.connection.sslmode = ssl_mode_of(i); }},
    {"Service", [](Item i, DatabaseSettings& s) { s.connection.service = name_of(i); }},
    {"Instance", [](Item i, DatabaseSettings& s) { s.instance = instance_of(i); }},
    {"Interval", [](Item i, DatabaseSettings& s) { s.interval_seconds = seconds_of(i); }},
    {"Table", [](Item i, DatabaseSettings& s) { s.table = parse_table_name(text_of(i)); }},
    {"Timeout", [](Item i, DatabaseSettings& s) { s.timeout_seconds = seconds_of(i); }},
    {"Exact", [](Item i, DatabaseSettings& s) { s.exact = boolean_of(i); }},
    {"Read", [](Item i, DatabaseSettings& s) { s.read = boolean_of(i); }},
    {"Cleanup", [](Item i, DatabaseSettings& s) { s.cleanup = read_cleanup_block(i); },
     Times::block},
}};

}  // namespace

PluginSettings read_plugin_option(const ConfigItem& item) {
  if (!same_key(item.key, kPluginOptions.front().name))
    throw ConfigError(fmt::format(
        "{} is not a valid option; valid options are <Database \"name\"> and MaxCleanups",
        item.key));
  PluginSettings settings;
  read_options({"Plugin", {}, {item}}, "<Plugin django_session>", kPluginOptions, settings);
  return settings;
}

DatabaseSettings read_database_block(const ConfigItem& block) {
  const auto* name =
      block.values.size() == 1 ? std::get_if<std::string>(&block.values.front()) : nullptr;
  if (name == nullptr || name->empty())
    throw ConfigError("<Database> takes the database's name in quotes: <Database \"site\">");
  DatabaseSettings settings;
  settings.connection.dbname = *name;
  pg::refuse_misplaced_password_in(*name);
  settings.database =
      pg::database_name(*name);  // the rest may be secret, and all can see the instance
  settings.instance = cut_to_bytes(settings.database, kLongestInstance);
  const std::string title = title_of(block, settings.database);
  read_options(block, title, kOptions, settings);
  if (settings.instance.empty())
    throw ConfigError("<Database>: a connection string without dbname needs an Instance");
  if (!is_printable(settings.instance))
    throw ConfigError(title +
                      ": Instance has a control character, such as a line break, or bytes that are "
                      "not UTF-8; use printable characters (the default is the database's name)");
  if (!settings.read && !settings.cleanup)
    throw ConfigError(title +
                      ": Read is false and there is no <Cleanup>, so there is nothing to do");
  if (!settings.read && settings.cleanup->host.empty())
    throw ConfigError(title + ": with Read false, <Cleanup> needs Host: whose values it obeys");
  return settings;
}

}  // namespace django_session::plugin
