// The file in which a hook's waits outlast the daemon.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/cleanup_policy.hpp"

namespace django_session::plugin {

/// Can't be read or written, or isn't what we wrote: what() says which file and why.
class PastFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Nothing if there is no such file. Throws PastFileError.
std::optional<CleanupPast> read_past(const std::string& path);

/// Replaces the file atomically: whenever it is read, and whenever the machine fails, it is the old
/// one or the new one. Waits for the disk. Throws PastFileError.
void write_past(const std::string& path, const CleanupPast& past);

/// The file's name for a plugin instance; it contains no slash.
std::string past_file_name(std::string_view instance);

// What is in it.
std::string past_text(const CleanupPast& past);
/// Nothing if it isn't a whole text of past_text().
std::optional<CleanupPast> parse_past(std::string_view text);

}  // namespace django_session::plugin
