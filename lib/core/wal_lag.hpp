// Whether replicas, replication slots and the archiver keep up with the WAL that a cleanup writes.
// Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"

namespace django_session {

/// What counts where --max-lag gives no number of bytes. A stuck replica reports no times, so there
/// is always a limit in bytes.
inline constexpr double kDefaultMaxLagBytes = 1024.0 * 1024 * 1024;

/// Something that has yet to read WAL which the server must keep for it.
struct WalReader {
  enum class Kind { replica, slot, archiver };
  Kind kind = Kind::replica;
  std::string name;                      ///< of the application or the slot
  std::optional<double> bytes_behind;    ///< nothing: this role may not see it
  std::optional<double> seconds_behind;  ///< replicas alone
  bool about_to_be_lost = false;         ///< a slot that has used up most of max_slot_wal_keep_size
};

/// Who is too far behind, and how far, for a message; empty when all keep up.
std::string too_far_behind(const std::vector<WalReader>& readers, const LagLimit& limit);

}  // namespace django_session
