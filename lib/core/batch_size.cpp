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

milliseconds pause_after(milliseconds batch) { return std::min(batch, kLongestPause); }

}  // namespace django_session
