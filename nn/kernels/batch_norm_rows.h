#pragma once

#include <cstddef>

#include "core/bf16.h"
#include "nn/kernels/batch_norm_coefficients.h"

/// The inner loops of batch norm: over rows of 16 neighbouring channels, one row after the other without gaps, in the
/// first-level cache or straight from memory. Element: float or Bf16; computed is in fp32. Coefficients and sums are
/// rows too. Null: there is no such array. What is written may be one of the sources.
namespace dcs3gd::nn::batch_norm {

constexpr std::size_t kLanes = 16;

template <typename Element>
struct Rows {
  const Element* src = nullptr;
  const Element* addend = nullptr;
  std::size_t count = 0;
};

/// sum += Σ x
void sum_rows(const float* x, std::size_t count, float* sum);
void sum_rows(const Bf16* x, std::size_t count, float* sum);

/// sum += Σ (x − mean)²
void add_squared_deviations(const float* x, std::size_t count, const float* mean, float* sum);
void add_squared_deviations(const Bf16* x, std::size_t count, const float* mean, float* sum);

/// dst = relu(normalised src + addend)
void normalise_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu, float* dst);
void normalise_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu, Bf16* dst);

/// sum += Σ g, sum_src += Σ g (src − mean), written = g: diff_dst's parts added, 0 where the ReLU was
template <typename Element>
struct GradientRows {
  const Element* part = nullptr;
  const Element* other_part = nullptr;
  Element* written = nullptr;
};
void reduce_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu,
                 const GradientRows<float>& diff_dst, float* sum, float* sum_src);
void reduce_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu,
                 const GradientRows<Bf16>& diff_dst, float* sum, float* sum_src);

/// diff_src as SourceGradient says; the ReLU masks diff_dst.
void differentiate_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu, const float* diff_dst,
                        const SourceGradient& coefficients, float* diff_src);
void differentiate_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu, const Bf16* diff_dst,
                        const SourceGradient& coefficients, Bf16* diff_src);

}  // namespace dcs3gd::nn::batch_norm
