// Looks users up by name.
#include "plugin/program_user.hpp"

#include <fmt/format.h>
#include <pwd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "core/printable.hpp"

namespace django_session::plugin {
namespace {

[[noreturn]] void refuse(const std::string& name, std::string_view why) {
  throw ConfigError(
      fmt::format("<Cleanup>: CommandUser \"{}\" {}", without_controls(name, '?'), why));
}

ProgramUser find_user(const std::string& name) {
  constexpr std::size_t kMostRoom = 1024 * 1024;
  passwd entry = {};
  passwd* found = nullptr;
  std::vector<char> room(4096);
  int error = 0;
  do {
    error = getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
    if (error == ERANGE) room.resize(room.size() * 2);
  } while (error == EINTR || (error == ERANGE && room.size() <= kMostRoom));
  if (found == nullptr && error != 0)
    refuse(name, "can't be looked up: " + std::generic_category().message(error));
  if (found == nullptr) refuse(name, "is not a user of this host");
  return {entry.pw_uid, entry.pw_gid, name, entry.pw_dir, entry.pw_shell};
}

}  // namespace

std::optional<ProgramUser> program_user_of(const CleanupSettings& settings, uid_t daemon) {
  if (settings.command.empty()) return std::nullopt;
  const std::string& name = settings.command_user;
  if (name.empty() && daemon != 0) return std::nullopt;
  if (name.empty())
    throw ConfigError(
        "<Cleanup>: Command needs CommandUser, because collectd runs as root: the name of an "
        "ordinary user to run the program as");
  ProgramUser user = find_user(name);
  if (user.user == 0) refuse(name, "is root; give an ordinary user to run the program as");
  if (user.user == daemon) return std::nullopt;
  if (daemon != 0)
    refuse(name,
           "can't be used: collectd doesn't run as root, so the program runs as collectd's own "
           "user; remove CommandUser");
  return user;
}

}  // namespace django_session::plugin
