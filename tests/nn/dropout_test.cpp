#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "core/error.h"
#include "nn/graph/layer_options.h"
#include "tests/nn/network_test_support.h"

// That forward and backward use the same mask, also in residual graphs, is seen by the comparison with the reference
// (engine_test.cpp), whose gradients are checked by finite differences.

using namespace dcs3gd;
using namespace dcs3gd::nn;

namespace {

constexpr int kFeatures = 250;
constexpr int kBatch = 40;

/// Images of ones → dropout → the logits. `layers_before` shifts the place of the dropout in the graph.
struct DropoutOfOnes {
  explicit DropoutOfOnes(float probability, std::uint64_t seed = 1, int layers_before = 0)
      : graph({kFeatures, 1, 1}), network(build(probability, layers_before), {.batch = kBatch, .seed = seed}) {
    const ParameterArena no_weights(network.parameter_layout());
    network.set_weights(no_weights);
  }

  std::vector<float> train(PassIdentity identity = {}) {
    ParameterArena gradient(network.parameter_layout());
    network.compute_gradient(view(), identity, gradient);
    return test::copy(network.logits());
  }
  std::vector<float> evaluate() {
    network.evaluate(view());
    return test::copy(network.logits());
  }

 private:
  const Graph& build(float probability, int layers_before) {
    ValueId value = graph.input();
    for (int i = 0; i < layers_before; ++i) value = graph.add(Relu{}, value);
    graph.add(Dropout{.probability = probability}, value);
    return graph;
  }
  BatchView view() const { return {ones.data(), labels.data(), kBatch}; }

  Graph graph;
  Network network;
  const std::vector<float> ones = std::vector<float>(std::size_t{kFeatures} * kBatch, 1);
  const std::vector<std::int32_t> labels = std::vector<std::int32_t>(kBatch, 0);
};

}  // namespace

TEST_CASE("dropout zeroes the given share and scales the rest") {
  for (const float probability : {0.1F, 0.5F, 0.9F}) {
    CAPTURE(probability);
    const std::vector<float> values = DropoutOfOnes(probability).train();
    const auto count = static_cast<double>(values.size());
    const auto dropped = static_cast<double>(std::ranges::count(values, 0.0F));
    const double p = static_cast<double>(probability);
    CHECK(std::abs(dropped - p * count) <= 4 * std::sqrt(p * (1 - p) * count));  // four standard deviations
    for (const float value : values) {
      if (value != 0) CHECK(value == doctest::Approx(1 / (1 - p)));
    }
  }
}

TEST_CASE("every image and every feature gets its own draws") {
  const std::vector<float> values = DropoutOfOnes(0.5F).train();
  std::vector<std::vector<float>> images;
  for (int n = 0; n < kBatch; ++n)
    images.emplace_back(values.begin() + n * kFeatures, values.begin() + (n + 1) * kFeatures);
  std::ranges::sort(images);
  CHECK(std::ranges::adjacent_find(images) == images.end());
  for (int feature = 0; feature < kFeatures; ++feature) {
    const auto dropped =
        std::ranges::count_if(images, [&](const auto& image) { return image[static_cast<std::size_t>(feature)] == 0; });
    CHECK(dropped > 0);
    CHECK(dropped < kBatch);
  }
}

TEST_CASE("the mask is a function of seed, step, worker and layer") {
  const std::vector<float> values = DropoutOfOnes(0.5F, 7).train({.step = 3, .worker = 1});
  CHECK(DropoutOfOnes(0.5F, 7).train({.step = 3, .worker = 1}) == values);
  CHECK(DropoutOfOnes(0.5F, 8).train({.step = 3, .worker = 1}) != values);
  CHECK(DropoutOfOnes(0.5F, 7).train({.step = 4, .worker = 1}) != values);
  CHECK(DropoutOfOnes(0.5F, 7).train({.step = 3, .worker = 2}) != values);
  CHECK(DropoutOfOnes(0.5F, 7, 1).train({.step = 3, .worker = 1}) != values);

  DropoutOfOnes used(0.5F, 7);
  used.train({.step = 1, .worker = 0});
  used.evaluate();
  CHECK(used.train({.step = 3, .worker = 1}) == values);
}

TEST_CASE("the mask does not depend on the number of threads") {
  std::vector<std::vector<float>> values;
  test::for_threads_1_and_2([&](int) { values.push_back(DropoutOfOnes(0.5F).train()); });
  CHECK(values[0] == values[1]);
}

TEST_CASE("dropout is nothing in evaluation and at probability 0") {
  const std::vector<float> ones(std::size_t{kFeatures} * kBatch, 1);
  CHECK(DropoutOfOnes(0.5F).evaluate() == ones);
  CHECK(DropoutOfOnes(0).train() == ones);
}

TEST_CASE("a probability outside [0, 1) is refused") {
  Graph graph({3, 1, 1});
  for (const float probability : {-0.1F, 1.0F, std::nanf("")}) {
    CHECK_THROWS_AS(graph.add(Dropout{.probability = probability}, graph.input()), Error);
  }
}
