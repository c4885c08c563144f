#pragma once

#include <optional>

#include "nn/onednn/onednn.h"

namespace dcs3gd::nn {

/// Plans a convolution by an algorithm: oneDNN's direct ones, our Winograd. None if it has no kernel for the request:
/// Winograd's are 3×3 of stride 1, for as many channels as fill a block, in blocked formats. They are planned for
/// the caller's OpenMP team.
std::optional<onednn::Planned> plan_convolution(const onednn::Device& device, ConvolutionDirection direction,
                                                ConvolutionAlgorithm algorithm,
                                                const onednn::ConvolutionRequest& request);

}  // namespace dcs3gd::nn
