// The <Cleanup> block as settings. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"
#include "core/cleanup_policy.hpp"
#include "pg/connection.hpp"
#include "plugin/config_values.hpp"

namespace django_session::plugin {

struct CleanupSettings {
  CleanupRules rules;
  std::string host;  ///< whose values count: "" for this host's, "*" for any host's
  CleanupOptions options = default_options();
  std::string user, service, passfile;  ///< of the cleaning role; empty: the reading one's
  std::vector<std::string> command;     ///< program and arguments instead of the built-in cleanup
  std::string command_user;             ///< whom it runs as; empty: the daemon's own user
  std::vector<std::string> warnings;    ///< what is accepted but probably a mistake; each one line

  static CleanupOptions default_options();
};

/// Throws ConfigError that begins with `<Cleanup>`.
CleanupSettings read_cleanup_block(const ConfigItem& block);

/// How the cleaning role connects. A password belongs to the user it was given for: another user
/// gets none of it. A service of its own replaces server and user.
pg::Parameters cleaning_connection(const pg::Parameters& reading, const CleanupSettings& cleanup);

}  // namespace django_session::plugin
