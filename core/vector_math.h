#pragma once

#include <span>

namespace dcs3gd {

/// Loops over flat arrays, on the calling thread's OpenMP team. Sums are taken in double over fixed blocks and added in
/// a fixed order: the result does not depend on the number of threads or on the instruction set.

/// Σ x². NaN or Inf in the array (or a sum beyond double) makes it non-finite: the finite check of a step.
double squared_norm(std::span<const float> x);

/// sum += x
void add(std::span<const float> x, std::span<float> sum);

/// x *= factor
void scale(float factor, std::span<float> x);

/// values += share·(target − values)
void move_towards(std::span<const float> target, float share, std::span<float> values);

}  // namespace dcs3gd
