#include "nn/plan/tensor.h"

namespace dcs3gd::nn {

onednn::Dims image_dims(int images, const ImageShape& shape) {
  return {images, shape.channels, shape.height, shape.width};
}

Tensor::Tensor(std::string name, const onednn::Descriptor& desc, Memory memory, Extent extent, int batch)
    : name_(std::move(name)), desc_(desc), memory_(memory), extent_(extent), size_bytes_(desc_.get_size()) {
  if (extent_ == Extent::none) return;
  bytes_per_image_ = size_bytes_ / static_cast<std::size_t>(onednn::dims_of(desc_)[0]);
  if (extent_ == Extent::batch) size_bytes_ = bytes_per_image_ * static_cast<std::size_t>(batch);
}

}  // namespace dcs3gd::nn
