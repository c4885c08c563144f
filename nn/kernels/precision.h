#pragma once

#include <cstddef>

#include "core/bf16.h"

namespace dcs3gd::nn {

/// The numbers that activations, their gradients and the compute weights are kept in. Statistics, weight gradients and
/// all sums are fp32 either way, and so are the caller's arrays.
enum class Precision { fp32, bf16 };

constexpr std::size_t element_bytes(Precision precision) { return precision == Precision::bf16 ? 2 : 4; }

/// Calls body(Element{}) with the type of the precision.
template <typename Body>
void with_element(Precision precision, Body body) {
  if (precision == Precision::bf16) {
    body(Bf16{});
  } else {
    body(0.0F);
  }
}

}  // namespace dcs3gd::nn
