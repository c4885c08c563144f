#include <algorithm>
#include <cmath>
#include <numeric>

#include <doctest/doctest.h>

#include "core/random_stream.h"
#include "tests/nn/network_cases.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;

namespace {

constexpr PassIdentity kPass{.step = 5, .worker = 1};

std::vector<double> unit_vector(std::size_t count, std::uint64_t seed) {
  RandomStream random(seed, RandomPurpose::test, 3);
  std::vector<double> values(count);
  for (double& value : values) value = static_cast<double>(random.normal());
  const double norm = std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
  for (double& value : values) value /= norm;
  return values;
}

/// (loss(weights + step·direction) − loss(weights − step·direction)) / (2·step), the weights being those of one slice.
double central_difference(reference::ReferenceNetwork& network, const RandomBatch& batch, const ParameterSlice& slice,
                          const std::vector<double>& direction) {
  constexpr double kStep = 1e-5;
  const std::span<double> weights = network.weights().subspan(slice.offset, slice.count);
  const std::vector<double> before(weights.begin(), weights.end());
  const auto loss_at = [&](double step) {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = before[i] + step * direction[i];
    return network.compute_gradient(batch.view(), kPass).counts.loss_sum / batch.count;
  };
  const double difference = loss_at(kStep) - loss_at(-kStep);
  std::ranges::copy(before, weights.begin());
  return difference / (2 * kStep);
}

}  // namespace

// The derivative along a random direction sees every element of a tensor at once.
TEST_CASE("the reference's gradients equal central finite differences") {
  constexpr double kTolerance = 1e-8;  // the third-order term is near 1e-10, the cancellation of the difference 1e-11
  for (const NetworkCase& network_case : network_cases()) {
    CAPTURE(network_case.name);
    const Graph graph = network_case.graph();
    const RandomBatch batch(graph, network_case.batch);
    auto network = reference_network(graph, {.label_smoothing = 0.1F}, RandomState(graph));
    const std::vector<double> gradient = network.compute_gradient(batch.view(), kPass).gradient;
    const auto layout = graph.parameter_layout();
    for (const ParameterSlice& slice : layout->slices()) {
      CAPTURE(slice.name);
      for (const std::uint64_t seed : {1, 2}) {
        const std::vector<double> direction = unit_vector(slice.count, seed);
        const double expected = central_difference(network, batch, slice, direction);
        const double derivative = std::inner_product(direction.begin(), direction.end(),
                                                     gradient.begin() + static_cast<std::ptrdiff_t>(slice.offset), 0.0);
        CHECK(std::abs(derivative - expected) <= kTolerance);
      }
    }
  }
}
