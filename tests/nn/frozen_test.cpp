#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "nn/convolution/tasks.h"
#include "nn/graph/layer_options.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;

namespace {

using Choice = std::function<bool(const std::string& name)>;

/// Two residual blocks: batch norms alone, with a ReLU, and fused with an addition, a value that two layers read, and a
/// convolution with a bias.
Graph residual_network() {
  Graph graph({3, 8, 8});
  ValueId value = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, graph.input(), "conv1");
  value = graph.add(BatchNorm{.relu = true}, value, "bn1");
  for (const std::string block : {"layer1", "layer2"}) {
    const ValueId shortcut =
        graph.add(BatchNorm{}, graph.add(Convolution{.oc = 16}, value, block + ".conv0"), block + ".bn0");
    value = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1, .bias = true}, value, block + ".conv1");
    value = graph.add(BatchNorm{.relu = true}, value, block + ".bn1");
    value = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, value, block + ".conv2");
    value = graph.add(BatchNorm{}, value, block + ".bn2");
    value = graph.add(Addition{.relu = true}, std::vector{value, shortcut});
  }
  value = graph.add(GlobalAveragePooling{}, value);
  graph.add(Linear{.oc = 5}, value, "fc");
  return graph;
}

Graph frozen_network(const Choice& is_frozen) {
  Graph graph = residual_network();
  graph.set_training([&](ParameterSlice& slice) { slice.is_frozen = is_frozen(slice.name); });
  return graph;
}

/// What one training pass of a network with this state gives.
struct Pass {
  Pass(const Graph& graph, const RandomState& state, const RandomBatch& batch)
      : network(graph, {.batch = batch.count}), gradient(network.parameter_layout()) {
    ParameterArena weights(network.parameter_layout());
    ParameterArena frozen(network.frozen_layout());
    copy_tensors(state.weights, weights);
    copy_tensors(state.weights, frozen);
    copy_tensors(state.statistics, frozen);
    network.set_weights(weights);
    network.set_frozen(frozen);
    std::ranges::fill(gradient.values(), std::numeric_limits<float>::quiet_NaN());
    loss = network
               .compute_gradient(batch.view(), {}, gradient,
                                 {.on_weights_needed = [&](const ParameterSlice& slice) { needed.push_back(&slice); },
                                  .on_gradient_ready = [&](const ParameterSlice& slice) { ready.push_back(&slice); }})
               .loss_sum;
  }

  Network network;
  ParameterArena gradient;
  double loss = 0;
  std::vector<const ParameterSlice*> needed, ready;
};

bool is_norm(const std::string& name) { return name.find("bn") != std::string::npos; }

}  // namespace

TEST_CASE("of frozen layers no backward direction is timed") {
  const onednn::Device device;
  const auto tasks = [&](const Choice& is_frozen) {
    return convolution_tasks(device, frozen_network(is_frozen), 4, Precision::fp32, true).size();
  };
  // Forward and weight gradients of seven convolutions and a linear layer, data gradients of all but the first.
  CHECK(tasks([](const std::string&) { return false; }) == 8 + 8 + 7);
  // Backward ends in layer2, where conv2 alone has a source that is trained.
  CHECK(tasks([](const std::string& name) { return !name.starts_with("layer2") && !name.starts_with("fc"); }) ==
        8 + 4 + 2);
  CHECK(tasks([](const std::string& name) { return !name.starts_with("fc"); }) == 8 + 1);
  CHECK(tasks([](const std::string& name) { return name != "conv1.weight"; }) == 8 + 1 + 7);
}

TEST_CASE("what is not frozen has the gradient of a network without frozen layers") {
  const RandomState state(residual_network());
  const RandomBatch batch(residual_network(), 4);
  const Pass whole(residual_network(), state, batch);
  const std::vector<Choice> choices{
      [](const std::string& name) { return name == "conv1.weight"; },
      [](const std::string& name) { return name.ends_with("conv1.weight") || name == "fc.weight"; },
      [](const std::string& name) { return name.ends_with("conv1.bias") || name.ends_with("bn1.weight"); },
      [](const std::string& name) { return !is_norm(name); },
      [](const std::string& name) { return name.find("conv") != std::string::npos; },
      [](const std::string& name) { return name.starts_with("fc") || name.ends_with("conv0.weight"); }};
  for (std::size_t choice = 0; choice < choices.size(); ++choice) {
    CAPTURE(choice);
    const Pass pass(frozen_network(choices[choice]), state, batch);
    CHECK(pass.loss == whole.loss);
    const auto& slices = pass.gradient.layout().slices();
    CHECK(slices.size() < whole.gradient.layout().slices().size());
    for (const ParameterSlice& slice : slices) {
      CAPTURE(slice.name);
      CHECK(!choices[choice](slice.name));
      CHECK(copy(pass.gradient.slice(slice)) == copy(whole.gradient.slice(*whole.gradient.layout().find(slice.name))));
    }
    CHECK(copy(pass.network.batch_statistics().values()) == copy(whole.network.batch_statistics().values()));
    // Each slice once, as the caller knows it.
    CHECK(pass.needed.size() == slices.size());
    CHECK(pass.ready.size() == slices.size());
    for (const ParameterSlice* slice : pass.ready) {
      CHECK(slice == pass.network.parameter_layout()->find(slice->name));
    }
  }
}

TEST_CASE("frozen batch norms normalise by their running statistics in training: its gradient by differences") {
  for (const bool only_norms : {true, false}) {
    CAPTURE(only_norms);
    const Graph graph = frozen_network([&](const std::string& name) {
      return is_norm(name) || (!only_norms && (name.starts_with("conv1") || name.starts_with("layer1")));
    });
    RandomState state(graph);
    for (float& value : state.statistics.values()) value = std::abs(value) + 0.3F;
    const RandomBatch batch(graph, 4);
    const Pass pass(graph, state, batch);
    CHECK(pass.network.statistics_layout()->element_count() == 0);
    auto reference = reference_network(graph, {.batch = batch.count}, state);
    const auto loss = [&] { return reference.evaluate(batch.view()).counts.loss_sum; };
    CHECK(pass.loss == doctest::Approx(loss()).epsilon(1e-5));
    for (const ParameterSlice& slice : pass.gradient.layout().slices()) {
      CAPTURE(slice.name);
      const std::size_t offset = graph.parameter_layout()->find(slice.name)->offset;
      double largest = 0;
      for (const float value : pass.gradient.slice(slice)) largest = std::max(largest, std::abs(double{value}));
      for (std::size_t i = 0; i < slice.count; i += slice.count / 5 + 1) {
        double& weight = reference.weights()[offset + i];
        const double before = weight;
        constexpr double kStep = 1e-5;
        weight = before + kStep;
        const double above = loss();
        weight = before - kStep;
        const double below = loss();
        weight = before;
        const double expected = (above - below) / (2 * kStep * batch.count);
        CHECK(std::abs(double{pass.gradient.slice(slice)[i]} - expected) <= 1e-4 * largest);
      }
    }
  }
}

TEST_CASE("backward ends at the lowest layer that is trained, and keeps nothing for those below") {
  const RandomState state(residual_network());
  const RandomBatch batch(residual_network(), 8);
  const Pass whole(residual_network(), state, batch);
  const Pass last(frozen_network([](const std::string& name) { return !name.starts_with("fc"); }), state, batch);
  const auto convolutions = [](const Pass& pass) { return pass.network.convolutions().all; };
  CHECK(convolutions(whole) == 3 * 7 - 1);  // the first one needs no data gradient
  CHECK(convolutions(last) == 7);
  CHECK(last.network.memory_bytes() < whole.network.memory_bytes() / 2);
  const Pass upper(
      frozen_network([](const std::string& name) { return !name.starts_with("layer2") && name[0] != 'f'; }), state,
      batch);
  CHECK(convolutions(upper) == 7 + 3 + 1);  // all forward; of layer2 weights, and data of what has layers below
}
