// The <Plugin django_session> block as settings. Pure: module.cpp turns collectd's own tree into
// ConfigItems.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/table_name.hpp"
#include "pg/connection.hpp"
#include "plugin/cleanup_settings.hpp"
#include "plugin/config_values.hpp"

namespace django_session::plugin {

/// One <Database> block.
struct DatabaseSettings {
  pg::Parameters connection;
  std::string database;  ///< its name, fit to be shown: connection.dbname may be a connection
                         ///< string with a password
  TableName table{"", "django_session"};
  std::string instance;                    ///< plugin instance; default: the database's name
  std::optional<double> interval_seconds;  ///< nothing: collectd's own
  double timeout_seconds = 5;              ///< for one whole reading
  bool exact = false;
  bool read = true;
  std::optional<CleanupSettings> cleanup;  ///< the write hook

  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<long long>(timeout_seconds * 1000));
  }
};

/// What stands beside the <Database> blocks.
struct PluginSettings {
  std::size_t max_cleanups = 1;  ///< at once, of all blocks
};

/// One option beside the <Database> blocks. Throws ConfigError, for other options too.
PluginSettings read_plugin_option(const ConfigItem& item);

/// Throws ConfigError that names the block, the option and what would be right.
DatabaseSettings read_database_block(const ConfigItem& block);

}  // namespace django_session::plugin
