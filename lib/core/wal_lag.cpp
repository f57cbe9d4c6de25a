// Each reader against the limits, the first one that breaks a limit is named.
#include "core/wal_lag.hpp"

#include <fmt/format.h>

#include <chrono>

#include "core/printable.hpp"
#include "core/quantity.hpp"

namespace django_session {
namespace {

std::string show(const WalReader& reader) {
  switch (reader.kind) {
    case WalReader::Kind::replica:
      return fmt::format("replica \"{}\" is", without_controls(reader.name, '?'));
    case WalReader::Kind::slot:
      return fmt::format("replication slot \"{}\" is", without_controls(reader.name, '?'));
    case WalReader::Kind::archiver:
      break;
  }
  return "the WAL archiver is";
}

std::string bytes_complaint(const WalReader& reader, double limit) {
  if (!reader.bytes_behind || *reader.bytes_behind <= limit) return "";
  return fmt::format("{} {} behind (--max-lag {})", show(reader),
                     format_quantity(*reader.bytes_behind, Unit::bytes),
                     format_quantity(limit, Unit::bytes));
}

std::string time_complaint(const WalReader& reader, double limit) {
  if (!reader.seconds_behind || *reader.seconds_behind <= limit) return "";
  return fmt::format("{} {:.1f} s behind (--max-lag {:g}s)", show(reader), *reader.seconds_behind,
                     limit);
}

std::string loss_complaint(const WalReader& reader) {
  if (!reader.about_to_be_lost) return "";
  return show(reader) + " about to be lost: it has used most of max_slot_wal_keep_size";
}

std::string complaint(const WalReader& reader, const LagLimit& limit) {
  if (const std::string text = loss_complaint(reader); !text.empty()) return text;
  if (limit.time) {
    const double seconds = std::chrono::duration<double>(*limit.time).count();
    if (const std::string text = time_complaint(reader, seconds); !text.empty()) return text;
  }
  return bytes_complaint(reader, limit.bytes.value_or(kDefaultMaxLagBytes));
}

}  // namespace

std::string too_far_behind(const std::vector<WalReader>& readers, const LagLimit& limit) {
  for (const WalReader& reader : readers)
    if (const std::string text = complaint(reader, limit); !text.empty()) return text;
  return "";
}

}  // namespace django_session
