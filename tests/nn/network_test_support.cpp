#include "tests/nn/network_test_support.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "core/random_stream.h"

namespace dcs3gd::nn::test {
namespace {

constexpr PassIdentity kSomePass{.step = 3, .worker = 2};

double largest_magnitude(std::span<const double> values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

double largest_difference(std::span<const float> actual, std::span<const double> expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double value = actual[i];
    if (std::isnan(value) && std::isnan(expected[i])) continue;
    const double difference = std::abs(value - expected[i]);
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

void check_counts(const BatchResult& actual, const BatchResult& expected, double tolerance) {
  CHECK(actual.loss_sum == doctest::Approx(expected.loss_sum).epsilon(tolerance));
  CHECK(actual.correct_top1 == expected.correct_top1);
  CHECK(actual.correct_top5 == expected.correct_top5);
  CHECK(actual.images == expected.images);
}

}  // namespace

RandomBatch::RandomBatch(const Graph& graph, int image_count, std::uint64_t seed)
    : count(image_count), elements_per_image(static_cast<std::size_t>(graph.shape(graph.input()).element_count())) {
  RandomStream random(seed, RandomPurpose::test, 1);
  images.resize(static_cast<std::size_t>(count) * elements_per_image);
  labels.resize(static_cast<std::size_t>(count));
  const auto classes = static_cast<std::uint32_t>(graph.shape(graph.output()).channels);
  for (float& value : images) value = random.normal();
  for (std::int32_t& label : labels) label = static_cast<std::int32_t>(random.below(classes));
}

BatchView RandomBatch::view(int first, int valid) const {
  return {images.data() + static_cast<std::size_t>(first) * elements_per_image, labels.data() + first, valid};
}

RandomState::RandomState(const Graph& graph, std::uint64_t seed)
    : weights(graph.parameter_layout()), statistics(graph.statistics_layout()) {
  initialize(graph, seed, weights, statistics);
  RandomStream random(seed, RandomPurpose::test, 2);
  for (const ParameterSlice& slice : weights.layout().slices()) {
    if (slice.kind != ParameterKind::norm) continue;
    for (float& value : weights.slice(slice)) value += 0.3F * random.normal();
  }
  for (float& value : statistics.values()) value += random.uniform(-0.4F, 0.4F);
}

PreparedNetwork::PreparedNetwork(const Graph& graph, const NetworkOptions& options, const RandomState& state)
    : network(graph, options), gradient(network.parameter_layout()) {
  network.set_weights(state.weights);
  network.set_running_statistics(state.statistics);
  // What a pass does not overwrite shall show.
  std::ranges::fill(gradient.values(), std::numeric_limits<float>::quiet_NaN());
}

reference::ReferenceNetwork reference_network(const Graph& graph, const NetworkOptions& options,
                                              const RandomState& state) {
  reference::ReferenceNetwork network(graph, options);
  std::ranges::copy(state.weights.values(), network.weights().begin());
  std::ranges::copy(state.statistics.values(), network.running_statistics().begin());
  return network;
}

double relative_distance(std::span<const float> actual, std::span<const double> expected) {
  REQUIRE(actual.size() == expected.size());
  const double difference = largest_difference(actual, expected);
  return difference == 0 ? 0 : difference / largest_magnitude(expected);
}

void check_tensors_close(const ParameterLayout& layout, std::span<const float> actual, std::span<const double> expected,
                         double tolerance) {
  REQUIRE(actual.size() == expected.size());
  const double negligible = tolerance * largest_magnitude(expected);
  for (const ParameterSlice& slice : layout.slices()) {
    CAPTURE(slice.name);
    const auto part = expected.subspan(slice.offset, slice.count);
    const double difference = largest_difference(actual.subspan(slice.offset, slice.count), part);
    CHECK(difference <= tolerance * std::max(largest_magnitude(part), negligible));
  }
}

void check_engine_equals_reference(const Graph& graph, const NetworkOptions& options, const Tolerance& tolerance) {
  const RandomState state(graph);
  const RandomBatch batch(graph, options.batch);
  PreparedNetwork engine(graph, options, state);
  const auto reference = reference_network(graph, options, state);

  const reference::PassResult training = reference.compute_gradient(batch.view(), kSomePass);
  check_counts(engine.network.compute_gradient(batch.view(), kSomePass, engine.gradient), training.counts,
               tolerance.forward);
  CHECK(relative_distance(engine.network.logits(), training.logits.values) <= tolerance.forward);
  check_tensors_close(engine.gradient.layout(), engine.gradient.values(), training.gradient, tolerance.gradient);
  check_tensors_close(state.statistics.layout(), engine.network.batch_statistics().values(), training.batch_statistics,
                      tolerance.forward);

  const reference::PassResult evaluation = reference.evaluate(batch.view());
  check_counts(engine.network.evaluate(batch.view()), evaluation.counts, tolerance.forward);
  CHECK(relative_distance(engine.network.logits(), evaluation.logits.values) <= tolerance.forward);

  CHECK(batch.images == RandomBatch(graph, options.batch).images);  // nobody wrote into the caller's images
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace dcs3gd::nn::test
