#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <omp.h>

#include "core/parameter_arena.h"
#include "nn/network.h"
#include "tests/nn/reference/reference_network.h"

/// What the tests of networks share: random states, and comparison of the engine with the reference.
namespace dcs3gd::nn::test {

/// Normal images and uniform labels.
struct RandomBatch {
  RandomBatch(const Graph& graph, int count, std::uint64_t seed = 1);

  BatchView view() const { return {images.data(), labels.data(), count}; }
  /// The first `valid` images only.
  BatchView view(int valid) const { return {images.data(), labels.data(), valid}; }
  /// `valid` images from the `first`-th on.
  BatchView view(int first, int valid) const;

  std::vector<float> images;
  std::vector<std::int32_t> labels;
  int count;
  std::size_t elements_per_image;
};

/// Weights as initialize() makes them, but γ and β and statistics of all sizes, so that no mistake hides behind 0 or 1.
struct RandomState {
  explicit RandomState(const Graph& graph, std::uint64_t seed = 1);

  ParameterArena weights;
  ParameterArena statistics;
};

/// A network that holds the state.
struct PreparedNetwork {
  PreparedNetwork(const Graph& graph, const NetworkOptions& options, const RandomState& state);

  Network network;
  ParameterArena gradient;
};

reference::ReferenceNetwork reference_network(const Graph& graph, const NetworkOptions& options,
                                              const RandomState& state);

/// How far `actual` is from `expected`: the largest difference of two elements in units of the largest element of
/// `expected`. NaN in one only is infinitely far.
double relative_distance(std::span<const float> actual, std::span<const double> expected);

/// Checks all tensors of two flat arrays of a layout, each against its own size. A tensor that should be zero (below
/// `tolerance` times the largest of all) is compared with the largest of all.
void check_tensors_close(const ParameterLayout& layout, std::span<const float> actual, std::span<const double> expected,
                         double tolerance);

/// In units of the largest element of a tensor.
struct Tolerance {
  double forward;   ///< of loss, logits and batch statistics
  double gradient;  ///< of each parameter's gradient
};

/// One training pass and one evaluation by both; checks counts, losses, logits, every gradient element and the batch
/// statistics.
void check_engine_equals_reference(const Graph& graph, const NetworkOptions& options, const Tolerance& tolerance);

/// Runs `function(threads)` with OpenMP teams of 1 and of 2 threads.
template <typename Function>
void for_threads_1_and_2(Function&& function) {
  const int before = omp_get_max_threads();
  for (const int threads : {1, 2}) {
    omp_set_num_threads(threads);
    function(threads);
  }
  omp_set_num_threads(before);
}

std::vector<float> copy(std::span<const float> values);

}  // namespace dcs3gd::nn::test
