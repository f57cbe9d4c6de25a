// The border to collectd: the only file that sees its headers. Callbacks are thin, and no exception
// leaves them.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/printable.hpp"
#include "plugin/cleanup_run.hpp"
#include "plugin/cleanup_texts.hpp"
#include "plugin/hook.hpp"
#include "plugin/reading_pool.hpp"
#include "plugin/settings.hpp"
#include "plugin/watched_database.hpp"

extern "C" {
#include "configfile.h"
#include "plugin.h"
#include "utils/common/common.h"
}

namespace {

using namespace django_session::plugin;

constexpr const char* kPlugin = "django_session";

/// Anyone who may create an object in the database chooses its name, and messages repeat it. A
/// newline in it would begin a line of its own: a forged log entry, or a command in Nagios' command
/// file, into which notify_nagios writes. Nor may collectd cut a character in two, or pass on what
/// isn't UTF-8: some of its plugins then fail for the whole host. `most` is in bytes.
std::string one_line(std::string_view text, std::size_t most) {
  const std::string line = django_session::without_controls(text, '?');
  return std::string(django_session::cut_to_bytes(line, most));
}

/// Into one of collectd's fields, which ends in a zero byte.
template <std::size_t size>
void copy_line(char (&field)[size], std::string_view text) {
  sstrncpy(field, one_line(text, size - 1).c_str(), size);
}

constexpr std::size_t kLongestLogLine = 1000;  // plugin_log() cuts at 1024, with our prefix

void log_line(LogLevel level, const std::string& message) {
  const int severity = level == LogLevel::error     ? LOG_ERR
                       : level == LogLevel::warning ? LOG_WARNING
                                                    : LOG_NOTICE;
  plugin_log(severity, "%s plugin: %s", kPlugin, one_line(message, kLongestLogLine).c_str());
}

void log_exception(const char* what) noexcept {
  try {
    log_line(LogLevel::error, what);
  } catch (...) {
    plugin_log(LOG_ERR, "%s plugin: out of memory", kPlugin);
  }
}

/// Runs what a callback does; its result is `failed` after an exception, which would otherwise
/// abort the daemon.
template <class Action>
int guarded(int failed, Action action) noexcept {
  try {
    action();
    return 0;
  } catch (const std::exception& error) {
    log_exception(error.what());
  } catch (...) {
    log_exception("an unknown exception");
  }
  return failed;
}

// Goes with a value through this daemon, and no further: neither collectd's network protocol nor
// PUTVAL can bring a boolean in.
constexpr const char* kMeasuredHere = "django_session:measured_here";

struct DestroyMetaData {
  void operator()(meta_data_t* meta) const { meta_data_destroy(meta); }
};
using MetaData = std::unique_ptr<meta_data_t, DestroyMetaData>;

MetaData mark_of_our_values() {
  MetaData meta(meta_data_create());
  if (meta) meta_data_add_boolean(meta.get(), kMeasuredHere, true);
  return meta;
}

bool is_measured_here(const value_list_t& values) {
  bool measured = false;
  return values.meta != nullptr &&
         meta_data_get_boolean(values.meta, kMeasuredHere, &measured) == 0 && measured;
}

cdtime_t collectd_time(Output::Time time) {
  const auto since_1970 = std::chrono::nanoseconds(time.time_since_epoch());
  return NS_TO_CDTIME_T(static_cast<uint64_t>(since_1970.count()));
}

void dispatch(const std::string& instance, bool marked, const Samples& samples, cdtime_t time) {
  value_list_t list = VALUE_LIST_INIT;
  list.time = time;
  const MetaData mark = marked ? mark_of_our_values() : nullptr;
  list.meta = mark.get();
  sstrncpy(list.plugin, kPlugin, sizeof(list.plugin));
  sstrncpy(list.plugin_instance, instance.c_str(), sizeof(list.plugin_instance));
  for (const Sample& sample : samples) {
    value_t value;
    if (sample.is_counter)
      value.derive = static_cast<derive_t>(sample.value);
    else
      value.gauge = sample.value;
    list.values = &value;
    list.values_len = 1;
    sstrncpy(list.type, sample.type, sizeof(list.type));
    copy_line(list.type_instance, sample.type_instance);
    plugin_dispatch_values(&list);
  }
}

/// `context`: for the plugins that get it. They ask for the interval, which our own threads lack.
void notify(const std::string& instance, plugin_ctx_t context, Severity severity,
            const std::string& message) {
  notification_t notification = {};
  notification.severity = severity == Severity::failure   ? NOTIF_FAILURE
                          : severity == Severity::warning ? NOTIF_WARNING
                                                          : NOTIF_OKAY;
  notification.time = cdtime();
  copy_line(notification.message, message);
  sstrncpy(notification.host, hostname_g, sizeof(notification.host));
  sstrncpy(notification.plugin, kPlugin, sizeof(notification.plugin));
  sstrncpy(notification.plugin_instance, instance.c_str(), sizeof(notification.plugin_instance));
  sstrncpy(notification.type, "total_operations", sizeof(notification.type));
  sstrncpy(notification.type_instance, "cleanup", sizeof(notification.type_instance));
  const plugin_ctx_t former = plugin_set_ctx(context);
  plugin_dispatch_notification(&notification);
  plugin_set_ctx(former);
}

/// How long a reading's end is waited for at the daemon's end, besides its Timeout.
constexpr std::chrono::milliseconds kStopTimeBesidesTimeout(500);

void log_shortage_of_threads(const std::string& reason) {
  log_line(LogLevel::warning,
           fmt::format("readings are delayed: no more threads could be started: {}", reason));
}

/// What callbacks without user data need. Filled while collectd reads its configuration, by its
/// only thread. Never destroyed: write threads, or a thread that had to be let go, may still use
/// it.
struct Registry {
  std::vector<std::shared_ptr<Hook>> hooks;
  std::shared_ptr<CleanupTurns> turns = std::make_shared<CleanupTurns>();  ///< of all hooks
  /// The hooks know their past. Values from the network may come before.
  std::atomic<bool> hooks_are_ready = false;
  ReadingPool readings{log_shortage_of_threads};
  std::chrono::milliseconds longest_timeout{};  ///< of a reading
  bool has_databases = false;
  std::thread::id main_thread;  ///< known from init on
  bool ending = false;          ///< used by the main thread alone
};

Registry& registry() {
  static auto* const the_registry = new Registry;
  return *the_registry;
}

/// What collectd keeps for a read callback; collectd frees it, also when the registration fails.
struct ReadContext {
  ReadContext(const DatabaseSettings& settings, std::shared_ptr<Hook> the_hook)
      : instance(settings.instance), hook(std::move(the_hook)) {
    if (!settings.read) return;
    const auto dispatch_all = [name = instance, hooked = hook != nullptr](const Samples& samples,
                                                                          Output::Time time) {
      dispatch(name, hooked, samples, collectd_time(time));
    };
    database = std::make_shared<WatchedDatabase>(settings, Output{dispatch_all, log_line});
  }

  /// At the daemon's end the main thread frees the reads one after another, when the read threads
  /// have ended and all other parts are still there. What is ours ends here: later, the plugins
  /// that it notifies would be going.
  ~ReadContext() {
    if (database) database->close();
    if (hook) hook->join();
  }

  ReadContext(const ReadContext&) = delete;
  ReadContext& operator=(const ReadContext&) = delete;

  void dispatch_hook_samples() const {
    if (hook) dispatch(instance, true, hook->samples(), cdtime());
  }

  std::string instance;
  std::shared_ptr<WatchedDatabase> database;  ///< null with `Read false`
  std::shared_ptr<Hook> hook;
};

/// Hands the reading over, with what collectd knows of its own thread: the interval. A callback
/// that took its time would keep one of collectd's few threads from all other plugins.
void start_reading(WatchedDatabase& database) {
  database.read_in(registry().readings, [context = plugin_get_ctx()] { plugin_set_ctx(context); });
}

/// Where collectd keeps what lasts: its BaseDir. It goes there when it becomes a daemon.
std::filesystem::path base_folder() {
  const char* option = global_option_get("BaseDir");
  const std::filesystem::path folder = option != nullptr ? option : "";
  return folder.is_absolute() ? folder : std::filesystem::current_path();
}

void end_all_cleanups() {
  for (const std::shared_ptr<Hook>& hook : registry().hooks) hook->request_stop();
}

/// Readings end within their Timeout, and cleanups meanwhile.
void end_all() {
  if (std::exchange(registry().ending, true)) return;
  end_all_cleanups();
  registry().readings.stop(ReadingPool::Clock::now() + registry().longest_timeout +
                           kStopTimeBesidesTimeout);
}

ConfigItem copy_item(const oconfig_item_t& item) {
  ConfigItem copy;
  copy.key = item.key;
  for (int i = 0; i < item.values_num; ++i) {
    const oconfig_value_t& value = item.values[i];
    switch (value.type) {
      case OCONFIG_TYPE_STRING:
        copy.values.emplace_back(std::string(value.value.string));
        break;
      case OCONFIG_TYPE_NUMBER:
        copy.values.emplace_back(value.value.number);
        break;
      default:
        copy.values.emplace_back(value.value.boolean != 0);
    }
  }
  for (int i = 0; i < item.children_num; ++i) copy.children.push_back(copy_item(item.children[i]));
  return copy;
}

}  // namespace

extern "C" {

static int on_init() {
  registry().main_thread = std::this_thread::get_id();
  return guarded(0, [] {
    if (!registry().has_databases)
      log_line(LogLevel::warning, "nothing is measured: there is no valid <Database> block");
    const std::filesystem::path folder = base_folder();
    for (const std::shared_ptr<Hook>& hook : registry().hooks) hook->recall(folder);
    registry().hooks_are_ready = true;
  });
}

/// Never fails: collectd would call it less and less often.
static int on_read(user_data_t* user_data) {
  return guarded(0, [user_data] {
    const auto& read = *static_cast<ReadContext*>(user_data->data);
    // `collectd -T` reads once, in the main thread: it waits for the values, and must not clean up
    // by them.
    const bool once = std::this_thread::get_id() == registry().main_thread;
    if (once) end_all_cleanups();
    if (read.database && once) read.database->read_here();
    if (read.database && !once) start_reading(*read.database);
    read.dispatch_hook_samples();
  });
}

static void free_read_context(void* context) {
  guarded(0, [context] {
    // Before init it is a registration that failed, and not the daemon's end.
    if (registry().main_thread != std::thread::id()) end_all();
    delete static_cast<ReadContext*>(context);
  });
}

static int on_write(const data_set_t* data_set, const value_list_t* values, user_data_t*) {
  if (strcmp(values->plugin, kPlugin) != 0 || !registry().hooks_are_ready) return 0;
  return guarded(-1, [data_set, values] {
    if (values->values_len != 1 || data_set->ds[0].type != DS_TYPE_GAUGE) return;
    const ValueName name = {
        values->host,          values->plugin_instance,   values->type,
        values->type_instance, is_measured_here(*values), strcmp(values->host, hostname_g) == 0};
    for (const std::shared_ptr<Hook>& hook : registry().hooks)
      hook->on_value(name, values->values[0].gauge);
  });
}

}  // extern "C"

namespace {

/// As the instance stands in values that have been dispatched: collectd has no slashes there.
std::string arriving(const std::string& instance) {
  char name[DATA_MAX_NAME_LEN];
  sstrncpy(name, instance.c_str(), sizeof(name));
  escape_slashes(name, sizeof(name));
  return name;
}

std::shared_ptr<Hook> make_hook(const DatabaseSettings& settings) {
  plugin_ctx_t context = plugin_get_ctx();
  context.name = nullptr;  // may not last
  if (settings.interval_seconds) context.interval = DOUBLE_TO_CDTIME_T(*settings.interval_seconds);
  HookOutput output = {
      log_line,
      [instance = settings.instance, context](Severity severity, const std::string& message) {
        notify(instance, context, severity, message);
      },
      current_moment, registry().turns};
  return std::make_shared<Hook>(settings, arriving(settings.instance), std::move(output),
                                cleanup_run(settings));
}

/// The callbacks that serve all hooks together.
void register_hook(std::shared_ptr<Hook> hook) {
  if (registry().hooks.empty()) plugin_register_write(kPlugin, on_write, nullptr);
  registry().hooks.push_back(std::move(hook));
}

void register_database(const ConfigItem& block) {
  const DatabaseSettings settings = read_database_block(block);
  // Instances that differ in a slash alone are one for collectd.
  const std::string name = fmt::format("{}-{}", kPlugin, arriving(settings.instance));
  const cdtime_t interval =
      settings.interval_seconds ? DOUBLE_TO_CDTIME_T(*settings.interval_seconds) : 0;
  const std::shared_ptr<Hook> hook = settings.cleanup ? make_hook(settings) : nullptr;
  user_data_t user_data = {new ReadContext(settings, hook), free_read_context};
  if (plugin_register_complex_read(nullptr, name.c_str(), on_read, interval, &user_data) != 0)
    throw django_session::ConfigError(
        fmt::format("<Database \"{0}\">: Instance \"{1}\" is already taken; give each block of a "
                    "database its own Instance",
                    settings.database, settings.instance));
  registry().has_databases = true;
  registry().longest_timeout = std::max(registry().longest_timeout, settings.timeout());
  if (!hook) return;
  register_hook(hook);
  for (const LogLine& line : introduction_of(settings)) log_line(line.level, line.text);
}

/// What is wrong is left out, with an error; the daemon continues with the other options and
/// blocks.
void register_item(const ConfigItem& item) {
  if (strcasecmp(item.key.c_str(), "Database") == 0) return register_database(item);
  registry().turns->set_at_once(read_plugin_option(item).max_cleanups);
}

}  // namespace

extern "C" {

static int on_config(oconfig_item_t* config) {
  for (int i = 0; i < config->children_num; ++i) {
    const oconfig_item_t& child = config->children[i];
    guarded(0, [&child] { register_item(copy_item(child)); });
  }
  return 0;
}

/// Nothing is begun here: collectd reads its configuration before it forks.
__attribute__((visibility("default"))) void module_register(void) {
  plugin_register_complex_config(kPlugin, on_config);
  plugin_register_init(kPlugin, on_init);
}

}  // extern "C"
