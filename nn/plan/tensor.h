#pragma once

#include <cstddef>
#include <string>

#include "nn/graph/graph.h"
#include "nn/onednn/onednn.h"

namespace dcs3gd::nn {

/// Some consecutive images of a batch: what one run of an operation works on.
struct ImageRange {
  int first = 0;
  int count = 0;
};

/// {N, C, H, W} of some images of an activation.
onednn::Dims image_dims(int images, const ImageShape& shape);

/// An activation, gradient or temporary of a plan. Its format is fixed when the plan is made; its place is decided
/// by the memory plan, or before a step by the owner of the memory for tensors that the plan does not own.
class Tensor {
 public:
  enum class Memory {
    planned,   ///< placed by the memory plan; shares bytes with tensors that live at other times
    external,  ///< placed from outside: the batch's images, a slice of the gradient, weights
  };
  enum class Extent {
    batch,  ///< all images of the batch, one after the other
    range,  ///< the images of one range; the next range overwrites them
    none,   ///< not images: weights, statistics
  };

  /// `desc` describes the images of one range, or all of a tensor that is not images. `batch` counts images and matters
  /// for Extent::batch only.
  Tensor(std::string name, const onednn::Descriptor& desc, Memory memory, Extent extent = Extent::none, int batch = 0);

  const std::string& name() const { return name_; }
  const onednn::Descriptor& desc() const { return desc_; }
  Memory memory() const { return memory_; }
  Extent extent() const { return extent_; }
  std::size_t size_bytes() const { return size_bytes_; }
  Precision precision() const { return onednn::precision_of(desc_); }
  /// Elements of an image, including a format's padding of channels: what an element-wise kernel runs over.
  std::size_t stored_elements_per_image() const { return bytes_per_image_ / element_bytes(precision()); }
  std::size_t stored_elements(const ImageRange& images) const {
    return stored_elements_per_image() * static_cast<std::size_t>(images.count);
  }

  /// Makes a tensor of the batch one of a range.
  void hold_one_range(int images) {
    extent_ = Extent::range;
    size_bytes_ = bytes_per_image_ * static_cast<std::size_t>(images);
  }

  void place(void* base) { base_ = static_cast<std::byte*>(base); }
  void* address(const ImageRange& images = {}) const {
    return extent_ == Extent::batch ? base_ + static_cast<std::size_t>(images.first) * bytes_per_image_ : base_;
  }
  /// The address as fp32 values; the tensor must hold such.
  float* values(const ImageRange& images = {}) const { return static_cast<float*>(address(images)); }

 private:
  std::string name_;
  onednn::Descriptor desc_;
  Memory memory_;
  Extent extent_;
  std::size_t bytes_per_image_ = 0;
  std::size_t size_bytes_ = 0;
  std::byte* base_ = nullptr;
};

}  // namespace dcs3gd::nn
