#pragma once

#include <memory>
#include <vector>

#include "core/aligned_buffer.h"
#include "nn/plan/operation.h"

namespace dcs3gd::nn {

/// Holds the weights in the formats that primitives read. A parameter may stand here in several formats (forward and
/// backward primitives of one convolution differ); writing a parameter writes all of them.
class ComputeWeights {
 public:
  ComputeWeights(const onednn::Device& device, std::size_t parameter_count);

  /// The tensor of a parameter in the format `desc`; made if there is none yet. `plain` describes the same values as
  /// they lie in an arena.
  Tensor* in_format(std::size_t parameter, const onednn::Descriptor& plain, const onednn::Descriptor& desc);
  /// Writes plain values into every format of the parameter.
  void write(std::size_t parameter, const float* plain);
  std::size_t size_bytes() const;

 private:
  struct Copy {
    std::unique_ptr<Tensor> plain;  ///< external: the values being written
    std::unique_ptr<Tensor> tensor;
    std::unique_ptr<Tensor> scratchpad;  ///< of oneDNN's reorder
    AlignedBuffer<std::byte> memory;
    AlignedBuffer<std::byte> scratchpad_memory;
    std::unique_ptr<Operation> reorder;
  };

  void plan_reorder(Copy& copy) const;

  const onednn::Device& device_;
  std::vector<std::vector<Copy>> copies_;  ///< by parameter
};

}  // namespace dcs3gd::nn
