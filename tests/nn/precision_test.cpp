#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "core/error.h"
#include "nn/convolution/tuning.h"
#include "nn/graph/layer_options.h"
#include "nn/onednn/cpu.h"
#include "tests/nn/network_cases.h"
#include "tests/nn/network_test_support.h"
#include "tests/support/named_networks.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;
using dcs3gd::test::build_model;
using dcs3gd::test::ModelOptions;

namespace {

constexpr PassIdentity kPass{.step = 1, .worker = 0};

/// ‖actual − expected‖ / ‖expected‖: rounding of many elements, not the worst of them.
double relative_norm(std::span<const float> actual, std::span<const double> expected) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

struct Distances {
  double loss, logits, gradient, evaluation;
};

Distances distances(const Graph& graph, const NetworkOptions& options) {
  const RandomState state(graph);
  const RandomBatch batch(graph, options.batch);
  PreparedNetwork engine(graph, options, state);
  const auto reference = reference_network(graph, options, state);
  const reference::PassResult expected = reference.compute_gradient(batch.view(), kPass);
  const BatchResult result = engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  Distances found{};
  found.loss = std::abs(result.loss_sum - expected.counts.loss_sum) / std::max(1.0, expected.counts.loss_sum);
  found.logits = relative_norm(engine.network.logits(), expected.logits.values);
  found.gradient = relative_norm(engine.gradient.values(), expected.gradient);
  engine.network.evaluate(batch.view());
  found.evaluation = relative_norm(engine.network.logits(), reference.evaluate(batch.view()).logits.values);
  return found;
}

/// Winograd wherever there is a choice.
ConvolutionChoices winograd_everywhere(const Graph& graph, int batch, Precision precision = Precision::fp32) {
  ConvolutionChoices choices;
  measure_convolutions(graph, batch, precision, choices);
  std::string text = choices.to_text();
  for (std::size_t at = text.find(": direct"); at != std::string::npos; at = text.find(": direct")) {
    text.replace(at, std::string(": direct").size(), ": winograd");
  }
  return ConvolutionChoices::from_text(text);
}

Graph two_convolutions(int channels, int size) {
  Graph graph({3, size, size});
  ValueId value = graph.add(Convolution{.oc = channels, .kernel = 3, .padding = 1}, graph.input(), "stem");
  value = graph.add(BatchNorm{.relu = true}, value, "bn1");
  value = graph.add(Convolution{.oc = channels, .kernel = 3, .padding = 1, .bias = true}, value, "conv1");
  value = graph.add(Relu{}, value);
  value = graph.add(Convolution{.oc = 2 * channels, .kernel = 3, .padding = 1}, value, "conv2");
  graph.add(Linear{.oc = 7}, graph.add(GlobalAveragePooling{}, value), "fc");
  return graph;
}

}  // namespace

// bf16 keeps 8 bits: each stored activation is off by up to 0.4 %. What a wrong type or format does is of order 1.
TEST_CASE("bf16 computes what fp32 computes but for rounding, on every small network and on 1 and 2 threads") {
  if (!supports(Precision::bf16)) {
    MESSAGE("skipped: this processor has no bf16: ", instruction_set());
    return;
  }
  for (const NetworkCase& network_case : network_cases()) {
    CAPTURE(network_case.name);
    const Graph graph = network_case.graph();
    for_threads_1_and_2([&](int threads) {
      CAPTURE(threads);
      const Distances found =
          distances(graph, {.batch = network_case.batch, .label_smoothing = 0.1F, .precision = Precision::bf16});
      CHECK(found.loss < 0.02);
      CHECK(found.logits < 0.05);
      CHECK(found.gradient < 0.15);
      CHECK(found.evaluation < 0.05);
    });
  }
}

TEST_CASE("whole models in bf16") {
  if (!supports(Precision::bf16)) return;
  for (const std::string name : {"lenet5", "resnet20"}) {
    CAPTURE(name);
    const bool is_lenet = name == "lenet5";
    const Graph graph = build_model({.name = name, .channels = is_lenet ? 1 : 3, .image_size = is_lenet ? 28 : 32});
    const Distances found = distances(graph, {.batch = 8, .precision = Precision::bf16});
    CHECK(found.loss < 0.02);
    CHECK(found.logits < 0.05);
    CHECK(found.gradient < 0.2);
    CHECK(found.evaluation < 0.05);
  }
}

TEST_CASE("bf16 without the instructions is an input error") {
  if (supports(Precision::bf16)) return;
  try {
    const Network network(two_convolutions(16, 8), {.batch = 2, .precision = Precision::bf16});
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()).find("model.precision") != std::string::npos);
  }
}

TEST_CASE("Winograd convolutions compute what direct ones compute, but for larger rounding") {
  for (const int channels : {16, 64}) {
    for (const int size : {8, 13, 28}) {
      CAPTURE(channels);
      CAPTURE(size);
      const Graph graph = two_convolutions(channels, size);
      for_threads_1_and_2([&](int threads) {
        CAPTURE(threads);
        const NetworkOptions options{.batch = 4, .convolutions = winograd_everywhere(graph, 4)};
        CHECK(Network(graph, options).convolutions().winograd >= 6);
        const Distances found = distances(graph, options);
        CHECK(found.loss < 1e-5);
        CHECK(found.logits < 1e-5);
        CHECK(found.gradient < 1e-4);
        CHECK(found.evaluation < 1e-5);
      });
    }
  }
}

// Activations are bf16 either way; fp32 inside can only lessen the rounding.
TEST_CASE("in a bf16 network Winograd convolutions compute in fp32") {
  if (!supports(Precision::bf16)) return;
  for (const int channels : {16, 64}) {
    CAPTURE(channels);
    const Graph graph = two_convolutions(channels, 13);
    for_threads_1_and_2([&](int threads) {
      CAPTURE(threads);
      NetworkOptions options{.batch = 4, .precision = Precision::bf16};
      const Distances direct = distances(graph, options);
      options.convolutions = winograd_everywhere(graph, 4, Precision::bf16);
      CHECK(Network(graph, options).convolutions().winograd >= 6);
      const Distances found = distances(graph, options);
      CHECK(found.loss < 0.02);
      CHECK(found.logits < 1.2 * direct.logits);
      CHECK(found.gradient < 1.2 * direct.gradient);
      CHECK(found.evaluation < 1.2 * direct.evaluation);
    });
  }
}

TEST_CASE("choices that were made for fp32 are none for bf16") {
  if (!supports(Precision::bf16)) return;
  const Graph graph = two_convolutions(64, 13);
  const NetworkOptions options{.batch = 4, .precision = Precision::bf16, .convolutions = winograd_everywhere(graph, 4)};
  CHECK(Network(graph, options).convolutions().winograd == 0);
  const Distances found = distances(graph, options);
  CHECK(found.loss < 0.02);
  CHECK(found.gradient < 0.15);
}

TEST_CASE("choices: direct unless chosen, written and read back, measured once") {
  const Graph graph = two_convolutions(32, 16);
  ConvolutionChoices choices;
  const ConvolutionCase convolution{.direction = ConvolutionDirection::backward_data,
                                    .src = {32, 16, 16},
                                    .options = {.oc = 32, .kernel = 3, .padding = 1, .bias = true},
                                    .images = 4};
  CHECK(convolution.to_string() == "backward data 32x16x16 to 32 kernel 3 stride 1 padding 1 bias images 4");
  CHECK(choices.of(convolution) == ConvolutionAlgorithm::direct);
  CHECK_FALSE(choices.knows(convolution));
  choices.set(convolution, ConvolutionAlgorithm::winograd);
  CHECK(choices.of(convolution) == ConvolutionAlgorithm::winograd);
  CHECK(choices.to_text() == convolution.to_string() + ": winograd\n");

  measure_convolutions(graph, 4, Precision::fp32, choices);
  CHECK(choices.of(convolution) == ConvolutionAlgorithm::winograd);  // what is known is not measured again
  CHECK(ConvolutionChoices::from_text(choices.to_text()) == choices);
  const ConvolutionChoices before = choices;
  measure_convolutions(graph, 4, Precision::fp32, choices);
  CHECK(choices == before);

  CHECK(ConvolutionChoices::from_text("") == ConvolutionChoices());
  CHECK_THROWS_AS(ConvolutionChoices::from_text("forward 1x1x1"), Error);
}
