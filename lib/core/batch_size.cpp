// Proportional control with a dead zone, so that the size settles.
#include "core/batch_size.hpp"

#include <algorithm>
#include <cmath>

namespace django_session {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kShortest{100}, kLongest{250};
constexpr double kAimMs = 160;  // between the two, by ratio
constexpr double kMostGrowth = 2, kMostShrinking = 1.0 / 8;
constexpr double kFewest = 1, kMost = 50'000;
constexpr milliseconds kLongestPause{5000};

// Of a deletion. A row's WAL is some 60 bytes, or 8 kB where it is the first of its page after a
// checkpoint.
constexpr double kAimWalBytes = 256.0 * 1024;
constexpr double kDeadZone = 1.5;  // by ratio, on both sides
// A batch has a cost of its own, which smaller ones would only pay more often.
constexpr double kFewestForTime = 100;
constexpr int kPauseToWork = 2;

}  // namespace

void BatchSize::took(milliseconds elapsed) {
  if (kShortest <= elapsed && elapsed <= kLongest) return;
  const double ratio = kAimMs / static_cast<double>(std::max(elapsed, milliseconds(1)).count());
  rows_ = std::clamp(std::floor(rows_ * std::clamp(ratio, kMostShrinking, kMostGrowth)), kFewest,
                     kMost);
}

bool BatchSize::was_too_much() {
  if (rows_ <= kFewest) return false;
  rows_ = std::max(kFewest, std::floor(rows_ / 4));
  return true;
}

void DeletePace::took(milliseconds elapsed, double wal_bytes) {
  const double by_time = static_cast<double>(kAim.count()) /
                         static_cast<double>(std::max(elapsed, milliseconds(1)).count());
  const double by_wal = kAimWalBytes / std::max(wal_bytes, 1.0);
  const double ratio = std::min(by_time, by_wal);
  if (1 / kDeadZone <= ratio && ratio <= kDeadZone) return;
  rows_ = std::clamp(std::floor(rows_ * std::clamp(ratio, kMostShrinking, kMostGrowth)),
                     std::min(rows_, kFewestForTime), kMost);
}

bool DeletePace::was_too_much() {
  if (rows_ <= kFewest) return false;
  rows_ = std::max(kFewest, std::floor(rows_ / 4));
  return true;
}

milliseconds DeletePace::pause_after(milliseconds batch) {
  return std::min(std::max(batch, milliseconds(1)) * kPauseToWork, kLongestPause);
}

}  // namespace django_session
