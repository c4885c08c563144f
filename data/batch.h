#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"

namespace dcs3gd::data {

/// The images that one worker reads at one step.
struct Batch {
  AlignedBuffer<float> images;       ///< batch_per_worker × channels × height × width, plain NCHW, normalised
  std::vector<std::int32_t> labels;  ///< batch_per_worker
  /// Mixup: the label of the second image in each mix, whose share is 1 − label_share; empty: nothing is mixed.
  std::vector<std::int32_t> other_labels;
  float label_share = 1;               ///< λ
  std::vector<std::uint32_t> indices;  ///< batch_per_worker; of the images in the data set
  int count = 0;                       ///< valid images; images and labels after them are zero. < B only in evaluation
  std::int64_t epoch = 0;
  std::int64_t step = 0;  ///< as in BatchPlace
  int worker = 0;         ///< over all ranks
};

}  // namespace dcs3gd::data
