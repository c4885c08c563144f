#pragma once

/// Names what oneDNN's convolutions and poolings can be asked for. Needs none of oneDNN's headers, so that headers
/// which other folders include may include it.
namespace dcs3gd::nn {

/// Computes dst, or the gradient of src, or the gradient of weights and bias.
enum class ConvolutionDirection { forward, backward_data, backward_weights };

enum class ConvolutionAlgorithm {
  direct,
  winograd,  ///< F(4×4, 3×3): fewer multiplications, larger rounding errors (kernels/winograd.h); stride 1
};

enum class PoolingAlgorithm { max, average };  ///< average counts padded zeros

}  // namespace dcs3gd::nn
