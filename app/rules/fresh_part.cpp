#include "app/rules/fresh_part.h"

#include <vector>

namespace dcs3gd::app {

std::size_t first_fresh_slice(const ParameterLayout& layout, double share) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  const double limit = share * static_cast<double>(layout.element_count());
  std::size_t first = slices.size();
  while (first > 0 && static_cast<double>(layout.element_count() - slices[first - 1].offset) <= limit) --first;
  return first;
}

}  // namespace dcs3gd::app
