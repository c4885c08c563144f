#include "core/shape.h"

#include "core/format.h"

namespace dcs3gd {

std::size_t Shape::element_count() const {
  std::size_t count = 1;
  for (const std::int64_t dim : dims_) count *= static_cast<std::size_t>(dim);
  return count;
}

std::string Shape::to_string() const {
  if (dims_.empty()) return "scalar";
  return format("{}", fmt::join(dims_, "x"));
}

}  // namespace dcs3gd
