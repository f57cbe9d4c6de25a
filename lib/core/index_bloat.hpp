// Which indexes are worth rebuilding. Pure.
#pragma once

#include <string>
#include <vector>

namespace django_session {

struct IndexBloat {
  std::string name;
  double bytes = 0;
  double compact_bytes = 0;  ///< if it were built now

  double gain() const { return bytes - compact_bytes; }
};

/// Those that are at least a third empty, and give back a megabyte or more: random keys leave the
/// pages of any B-tree in use about 70 % full, so that a smaller gain wouldn't last. Smallest
/// first: what they give back is there when the larger ones need room for their copies.
std::vector<IndexBloat> worth_rebuilding(std::vector<IndexBloat> indexes);

}  // namespace django_session
