// The places by the catalogue, the room by the file systems.
#include "cleanup/server_room.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "cleanup/sql_files.hpp"
#include "core/sql_text.hpp"

namespace django_session::sessions {
namespace {

/// A server in a container names a folder that may be another one here, or none. This one is its
/// own if the file in which a server notes its port and when it was started says the same.
bool is_servers_folder(const DataFolder& folder) {
  constexpr int kStartedLine = 3, kPortLine = 4;
  constexpr double kWhileItStarts = 60;  // seconds
  std::ifstream file(folder.path + "/postmaster.pid");
  std::vector<std::string> lines(1);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  if (lines.size() <= kPortLine || lines[kPortLine] != folder.port) return false;
  const double noted = std::strtod(lines[kStartedLine].c_str(), nullptr);
  return std::abs(noted - folder.started) < kWhileItStarts;
}

DiskRoom room_in(const std::string& folder) {
  DiskRoom room{std::nullopt, folder, ""};
  std::error_code failed;
  const auto space = std::filesystem::space(folder, failed);
  struct stat status {};
  if (failed || stat(folder.c_str(), &status) != 0) return room;
  room.free = static_cast<double>(space.available);
  room.file_system = fmt::format("device {}", status.st_dev);
  return room;
}

/// Of pg_tablespace_location(): nothing for the one in the data folder; relative to that folder for
/// those that a developer keeps there.
std::string tablespace_folder(const std::string& data, const std::string& location) {
  if (location.empty()) return data + "/base";
  return location.front() == '/' ? location : data + "/" + location;
}

}  // namespace

ServerRoom look_at_disks(Run& run, const DataFolder& folder) {
  ServerRoom room;
  const std::string& data = folder.path;
  if (data.empty() || !run.connection().address().is_local() || !is_servers_folder(folder))
    return room;
  for (const pg::Row& row : run.ask(sql::fill<sql::places>(sql::arg<"oid">(run.target().oid)))) {
    const DiskRoom disk = room_in(tablespace_folder(data, row.text("folder")));
    const std::string kind = row.text("kind");
    if (kind == "table")
      room.table = disk;
    else if (kind == "index")
      room.indexes[row.text("name")] = disk;
    else
      room.temporary.push_back(disk);
    room.wal_kept = row.number("wal_kept");
  }
  room.wal = room_in(data + "/pg_wal");
  return room;
}

}  // namespace django_session::sessions
