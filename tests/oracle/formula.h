#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/parameter_arena.h"
#include "nn/graph/graph.h"
#include "nn/network.h"

/// The numbers that both sides of the oracle start from; formula.py computes the same, bit for bit.
namespace dcs3gd::oracle {

/// Fills parameters or running statistics with the values that training starts from.
void fill_first_values(int seed, ParameterArena& arena);

/// The images and labels called `name`.
struct FormulaBatch {
  FormulaBatch(int seed, const std::string& name, int count, const nn::ImageShape& shape, int classes);

  nn::BatchView view(int valid) const { return {images.data(), labels.data(), valid}; }

  std::vector<float> images;
  std::vector<std::int32_t> labels;
};

/// The norm of a tensor, and the sums of its elements under random signs.
std::vector<double> sketch(const std::string& name, std::span<const double> values);

}  // namespace dcs3gd::oracle
