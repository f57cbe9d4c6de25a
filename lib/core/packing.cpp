// PostgreSQL's way to fill pages: the present one as long as there is room, else an older one that
// has some, else a new one.
#include "core/packing.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace django_session {
namespace {

constexpr double kPage = 8192, kRoom = kPage - 24;
constexpr double kLinePointer = 4;
constexpr double kLargestTuple = 8160;
constexpr double kChunk = 1996, kChunkHeader = 36, kChunksOfAPage = 4;
constexpr int kSimulated = 2000;

double align(double bytes) { return std::ceil(bytes / 8) * 8; }

class Pages {
 public:
  explicit Pages(double kept_free) : kept_free_(kept_free) {}

  void add(double tuple) {
    const double needed = align(tuple) + kLinePointer;
    if (left_ < needed + kept_free_) turn_to(needed);
    left_ -= needed;
  }

  /// The last one as far as it is filled.
  double bytes() const { return (pages_ - left_ / kRoom) * kPage; }

 private:
  void turn_to(double needed) {
    if (pages_ > 0) holes_.insert(left_);
    const auto hole = holes_.lower_bound(needed + kept_free_);
    if (hole == holes_.end()) {
      ++pages_;
      left_ = kRoom;
    } else {
      left_ = *hole;
      holes_.erase(hole);
    }
  }

  double kept_free_, pages_ = 0, left_ = 0;
  std::multiset<double> holes_;
};

/// The n-th of sizes that are spread evenly, in no order.
double nth(const SizeSpread& sizes, int n, double least) {
  constexpr double kGoldenRatio = 0.6180339887498949, kHalfRange = 1.7320508075688772;
  const double place = std::fmod(n * kGoldenRatio, 1.0) * 2 - 1;
  return std::max(least, sizes.mean + place * kHalfRange * sizes.deviation);
}

}  // namespace

double heap_bytes_for_each(const SizeSpread& tuples, double fillfactor) {
  constexpr double kSmallest = 24;
  Pages pages(std::floor(kPage * (100 - fillfactor) / 100));
  for (int n = 0; n < kSimulated; ++n)
    pages.add(std::min(nth(tuples, n, kSmallest), kLargestTuple));
  return pages.bytes() / kSimulated;
}

ToastedValue toasted_value(const SizeSpread& values) {
  // Of so many chunks it no longer counts how they are packed, and to try it would take long.
  constexpr double kMany = 500;
  if (values.mean + 2 * values.deviation > kMany * kChunk) {
    const double chunks = values.mean / kChunk + 0.5;  // the last one is half full
    return {chunks * kPage / kChunksOfAPage, chunks};
  }
  Pages pages(0);
  double chunks = 0;
  for (int n = 0; n < kSimulated; ++n) {
    for (double left = std::floor(nth(values, n, 1)); left > 0; left -= kChunk, ++chunks)
      pages.add(kChunkHeader + std::min(left, kChunk));
  }
  return {pages.bytes() / kSimulated, chunks / kSimulated};
}

}  // namespace django_session
