// Two limits and an order.
#include "core/index_bloat.hpp"

#include <algorithm>

namespace django_session {
namespace {

constexpr double kBloated = 1.5;  // times the compact size
constexpr double kLeastGain = 1024 * 1024;

bool is_not_worth_it(const IndexBloat& index) {
  return index.gain() < kLeastGain || index.bytes < kBloated * index.compact_bytes;
}

}  // namespace

std::vector<IndexBloat> worth_rebuilding(std::vector<IndexBloat> indexes) {
  std::erase_if(indexes, is_not_worth_it);
  std::sort(indexes.begin(), indexes.end(),
            [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  return indexes;
}

}  // namespace django_session
