#pragma once

/// What the kernels of batch norm multiply and add: an array of values per channel each.
namespace dcs3gd::nn::batch_norm {

/// dst = scale (src − mean) + shift.
struct Normalisation {
  const float* mean;
  const float* scale;
  const float* shift;
};

/// diff_src = of_gradient g + of_src (src − mean) + constant.
struct SourceGradient {
  const float* of_gradient;
  const float* of_src;
  const float* constant;
};

}  // namespace dcs3gd::nn::batch_norm
