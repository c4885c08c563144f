#include "core/shape.h"

namespace dcs3gd {

std::size_t Shape::element_count() const {
  std::size_t count = 1;
  for (const std::int64_t dim : dims_) count *= static_cast<std::size_t>(dim);
  return count;
}

std::string Shape::to_string() const {
  if (dims_.empty()) return "scalar";
  std::string text = std::to_string(dims_.front());
  for (std::size_t axis = 1; axis < dims_.size(); ++axis) text += "x" + std::to_string(dims_[axis]);
  return text;
}

}  // namespace dcs3gd
