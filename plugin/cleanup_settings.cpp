// The options of <Cleanup>, each with what it takes.
#include "plugin/cleanup_settings.hpp"

#include <array>
#include <chrono>

namespace django_session::plugin {
namespace {

constexpr double kDay = 86400;
constexpr double kLongestRun = 7 * kDay;
constexpr double kLongestCooldown = 366 * kDay;
constexpr double kLongestKeep = 10 * kLongestCooldown;
constexpr std::chrono::minutes kDefaultMaxDuration(30);

std::chrono::seconds whole_seconds(double seconds) {
  return std::chrono::seconds(static_cast<long long>(seconds));
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<long long>(seconds * 1000));
}

std::vector<std::string> command_of(const ConfigItem& item) {
  constexpr std::string_view kWhat =
      "a program's full path and its arguments, each in quotes: \"/usr/local/bin/clean\" \"-v\"";
  std::vector<std::string> command = texts_of(item, kWhat);
  if (command.front().substr(0, 1) != "/") throw Wrong{fmt::format("takes {}", kWhat)};
  return command;
}

constexpr std::string_view kTrigger = "METRIC=RANGE in quotes, for example \"reclaimable=1GB\"";
constexpr std::string_view kUser = "the name of an ordinary user in quotes";
constexpr std::string_view kHost = "a host's name in quotes, or \"*\" for any host";
constexpr std::string_view kMethod = "one of \"auto\", \"delete\", \"swap\", \"full\"";
constexpr std::string_view kWindow = "a part of the day in quotes, for example \"01:00-05:00\"";

void add_trigger(const ConfigItem& item, CleanupSettings& settings) {
  settings.rules.triggers.push_back(parse_trigger(text_of(item, kTrigger)));
}

void add_window(const ConfigItem& item, CleanupSettings& settings) {
  settings.rules.windows.push_back(parse_window(text_of(item, kWindow)));
}

void set_cooldown(const ConfigItem& item, CleanupSettings& settings) {
  settings.rules.cooldown = whole_seconds(duration_of(item, 0, kLongestCooldown));
}

void set_max_duration(const ConfigItem& item, CleanupSettings& settings) {
  settings.options.max_duration = milliseconds(duration_of(item, 1, kLongestRun));
}

void set_keep(const ConfigItem& item, CleanupSettings& settings) {
  settings.options.keep = whole_seconds(duration_of(item, 0, kLongestKeep));
}

void set_method(const ConfigItem& item, CleanupSettings& settings) {
  settings.options.method = parse_method(text_of(item, kMethod));
}

using Item = const ConfigItem&;

constexpr std::array<Option<CleanupSettings>, 12> kOptions = {{
    {"Trigger", [](Item i, CleanupSettings& s) { add_trigger(i, s); }, Times::repeated},
    {"Host", [](Item i, CleanupSettings& s) { s.host = text_of(i, kHost); }},
    {"Method", [](Item i, CleanupSettings& s) { set_method(i, s); }},
    {"Cooldown", [](Item i, CleanupSettings& s) { set_cooldown(i, s); }},
    {"Window", [](Item i, CleanupSettings& s) { add_window(i, s); }, Times::repeated},
    {"MaxDuration", [](Item i, CleanupSettings& s) { set_max_duration(i, s); }},
    {"Keep", [](Item i, CleanupSettings& s) { set_keep(i, s); }},
    {"User", [](Item i, CleanupSettings& s) { s.user = text_of(i); }},
    {"Service", [](Item i, CleanupSettings& s) { s.service = text_of(i); }},
    {"PassFile", [](Item i, CleanupSettings& s) { s.passfile = text_of(i); }},
    {"Command", [](Item i, CleanupSettings& s) { s.command = command_of(i); }},
    {"CommandUser", [](Item i, CleanupSettings& s) { s.command_user = text_of(i, kUser); }},
}};

/// What a Command would not learn.
constexpr std::array<std::string_view, 5> kOfTheBuiltInCleanup = {"Method", "Keep", "User",
                                                                  "Service", "PassFile"};

void check_against_command(const ConfigItem& block) {
  for (const ConfigItem& item : block.children)
    for (const std::string_view option : kOfTheBuiltInCleanup)
      if (same_key(item.key, option))
        throw ConfigError(
            fmt::format("<Cleanup>: {} is for the built-in cleanup, and Command runs a program "
                        "instead; remove one of them",
                        option));
}

/// Triggers beside Method and Keep.
void check_triggers(CleanupSettings& settings) {
  for (const CleanupTrigger& trigger : settings.rules.triggers) {
    try {
      check_against_keep(trigger, settings.options.keep);
    } catch (const ConfigError& error) {
      throw ConfigError(fmt::format("<Cleanup>: Trigger {}", error.what()));
    }
    if (const auto advice = advice_on(trigger, settings.options.method))
      settings.warnings.push_back("<Cleanup>: " + *advice);
  }
}

}  // namespace

CleanupOptions CleanupSettings::default_options() {
  CleanupOptions options;
  options.method = Method::remove;  // the one that needs the least rights and disk
  options.max_duration = kDefaultMaxDuration;
  return options;
}

CleanupSettings read_cleanup_block(const ConfigItem& block) {
  if (!block.values.empty()) throw ConfigError("<Cleanup> takes no value");
  CleanupSettings settings;
  read_options(block, "<Cleanup>", kOptions, settings);
  if (settings.rules.triggers.empty())
    throw ConfigError("<Cleanup>: Trigger is missing; it takes " + std::string(kTrigger));
  if (settings.command.empty() && !settings.command_user.empty())
    settings.warnings.emplace_back("<Cleanup>: CommandUser has no effect without Command");
  if (settings.command.empty())
    check_triggers(settings);
  else
    check_against_command(block);
  return settings;
}

namespace {

// What a connection string says goes before a service, and its password before a password file.
// So it has to lose what <Cleanup> replaces.

/// SSLMode stays: a service that says nothing of it must not make the connection less safe.
pg::Parameters by_service(const pg::Parameters& reading, const std::string& service) {
  pg::Parameters cleaning;
  cleaning.dbname = pg::with_keywords(reading.dbname, [](std::string_view keyword) {
    return keyword == "dbname" || keyword == "sslmode";
  });
  cleaning.sslmode = reading.sslmode;
  cleaning.passfile = reading.passfile;
  cleaning.service = service;
  return cleaning;
}

/// The password belongs to what is replaced: the user, or the file that it would go before.
void replace(std::string_view replaced, pg::Parameters& cleaning) {
  cleaning.password.clear();
  cleaning.dbname = pg::with_keywords(cleaning.dbname, [replaced](std::string_view keyword) {
    return keyword != replaced && keyword != "password";
  });
}

}  // namespace

pg::Parameters cleaning_connection(const pg::Parameters& reading, const CleanupSettings& cleanup) {
  pg::Parameters cleaning =
      cleanup.service.empty() ? reading : by_service(reading, cleanup.service);
  if (!cleanup.user.empty()) {
    replace("user", cleaning);
    cleaning.user = cleanup.user;
  }
  if (!cleanup.passfile.empty()) {
    replace("passfile", cleaning);
    cleaning.passfile = cleanup.passfile;
  }
  return cleaning;
}

}  // namespace django_session::plugin
