#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"
#include "nn/graph/graph.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// A batch of noise with random labels, for dry runs and benchmarks.
class RandomBatch {
 public:
  RandomBatch(int images, const nn::ImageShape& shape, int classes, std::uint64_t id);

  nn::BatchView view() const { return {images_.data(), labels_.data(), static_cast<int>(labels_.size())}; }

 private:
  AlignedBuffer<float> images_;
  std::vector<std::int32_t> labels_;
};

}  // namespace dcs3gd::app
