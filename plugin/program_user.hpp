// Whom a Command runs as.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "plugin/cleanup_settings.hpp"

namespace django_session::plugin {

/// From the system's users.
struct ProgramUser {
  uid_t user = 0;
  gid_t group = 0;  ///< the only one that the program has
  std::string name, home, shell;
};

/// The block's CommandUser; nothing if the program runs as the daemon does, whose user id is
/// `daemon`. As collectd's exec plugin: nothing is run as root. Throws ConfigError that begins with
/// `<Cleanup>`.
std::optional<ProgramUser> program_user_of(const CleanupSettings& settings, uid_t daemon);

}  // namespace django_session::plugin
