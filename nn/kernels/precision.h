#pragma once

#include <cstddef>

namespace dcs3gd::nn {

/// The numbers that activations, their gradients and the compute weights are kept in. Statistics, weight gradients and
/// all sums are fp32 either way, and so are the caller's arrays.
enum class Precision { fp32, bf16 };

constexpr std::size_t element_bytes(Precision precision) { return precision == Precision::bf16 ? 2 : 4; }

}  // namespace dcs3gd::nn
