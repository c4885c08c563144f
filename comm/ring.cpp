#include "comm/ring.h"

#include <algorithm>

#include "core/format.h"

namespace dcs3gd::comm {

std::string Ring::describe(int rank) const {
  if (hosts_.empty()) return format("rank {}", rank);
  return format("rank {} on {}", rank, hosts_[static_cast<std::size_t>(rank)]);
}

std::string Ring::missing_on_the_left(std::size_t step) const {
  std::string text = format("nothing comes from {}", describe(left()));
  const std::ptrdiff_t furthest = std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(step) + 1, size_ - 1);
  for (std::ptrdiff_t distance = 2; distance <= furthest; ++distance) {
    text += format("{} {}", distance == 2 ? ", which may be waiting for" : " or", describe(behind(distance)));
  }
  return text;
}

}  // namespace dcs3gd::comm
