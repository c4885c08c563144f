#include "app/config/network_reader.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/named_networks.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using dcs3gd::test::build_model;
using dcs3gd::test::ModelOptions;

namespace {

std::size_t parameter_count(const ModelOptions& options) {
  return build_model(options).parameter_layout()->element_count();
}

/// "name shape" of parameters and statistics as torchvision orders them: the statistics of a batch norm stand after
/// its parameters.
std::vector<std::string> state_names(const Graph& graph) {
  const auto parameters = graph.parameter_layout();
  const auto statistics = graph.statistics_layout();
  std::vector<std::string> names;
  const auto add = [&](const ParameterSlice& slice) { names.push_back(slice.name + " " + slice.shape.to_string()); };
  for (const Node& node : graph.nodes()) {
    for (const std::size_t index : node.parameters) add(parameters->slices()[index]);
    for (const std::size_t index : node.statistics) add(statistics->slices()[index]);
  }
  return names;
}

/// The lines of torchvision_state_dict.txt for one model, without the counters of batches, which are not ours.
std::vector<std::string> torchvision_state_names(const std::string& model) {
  std::ifstream file(TORCHVISION_STATE_DICT);
  REQUIRE(file);
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string line_model, name, shape;
    words >> line_model >> name >> shape;
    if (line_model == model && !name.ends_with(".num_batches_tracked")) names.push_back(name + " " + shape);
  }
  return names;
}

struct Moments {
  double mean = 0;
  double deviation = 0;
  float largest = 0;
};

Moments moments(std::span<const float> values) {
  Moments result;
  for (const float value : values) {
    result.mean += static_cast<double>(value) / static_cast<double>(values.size());
    result.largest = std::max(result.largest, std::abs(value));
  }
  for (const float value : values) {
    const double distance = static_cast<double>(value) - result.mean;
    result.deviation += distance * distance / static_cast<double>(values.size());
  }
  result.deviation = std::sqrt(result.deviation);
  return result;
}

struct InitialState {
  explicit InitialState(const Graph& graph, std::uint64_t seed = 1)
      : weights(graph.parameter_layout()), statistics(graph.statistics_layout()) {
    initialize(graph, seed, weights, statistics);
  }
  std::span<const float> weight(const std::string& name) const { return weights.slice(*weights.layout().find(name)); }

  ParameterArena weights;
  ParameterArena statistics;
};

bool all_equal(std::span<const float> values, float value) {
  return std::ranges::all_of(values, [&](float v) { return v == value; });
}

}  // namespace

TEST_CASE("parameter counts are torchvision's") {
  CHECK(parameter_count({.name = "resnet18", .classes = 1000, .image_size = 224}) == 11'689'512);
  CHECK(parameter_count({.name = "resnet34", .classes = 1000, .image_size = 224}) == 21'797'672);
  CHECK(parameter_count({.name = "resnet50", .classes = 1000, .image_size = 224}) == 25'557'032);
  CHECK(parameter_count({.name = "resnet101", .classes = 1000, .image_size = 224}) == 44'549'160);
  CHECK(parameter_count({.name = "resnet152", .classes = 1000, .image_size = 224}) == 60'192'808);
  CHECK(parameter_count({.name = "vgg11", .classes = 1000, .image_size = 224}) == 132'863'336);
  CHECK(parameter_count({.name = "vgg11_bn", .classes = 1000, .image_size = 224}) == 132'868'840);
  CHECK(parameter_count({.name = "vgg13", .classes = 1000, .image_size = 224}) == 133'047'848);
  CHECK(parameter_count({.name = "vgg13_bn", .classes = 1000, .image_size = 224}) == 133'053'736);
  CHECK(parameter_count({.name = "vgg16", .classes = 1000, .image_size = 224}) == 138'357'544);
  CHECK(parameter_count({.name = "vgg16_bn", .classes = 1000, .image_size = 224}) == 138'365'992);
  CHECK(parameter_count({.name = "vgg19", .classes = 1000, .image_size = 224}) == 143'667'240);
  CHECK(parameter_count({.name = "vgg19_bn", .classes = 1000, .image_size = 224}) == 143'678'248);
  CHECK(parameter_count({.name = "lenet5", .classes = 10, .channels = 1, .image_size = 28}) == 61'706);
}

// By hand, for ResNet-(6k + 2): the stem 3·16·9 + 2·16 = 464; a block of width w without shortcut 2·9w² + 4w, the first
// of a stage that halves the pixels 9·(w/2)·w + 9w² + 4w + (w/2)·w + 2w; the classifier 64·10 + 10 = 650.
TEST_CASE("parameter counts of the CIFAR ResNets") {
  const auto block = [](std::size_t w) { return 18 * w * w + 4 * w; };
  const auto first_block = [](std::size_t w) { return 9 * (w / 2) * w + 9 * w * w + 4 * w + (w / 2) * w + 2 * w; };
  for (const std::size_t k : {1, 2, 3, 5, 7, 9, 18}) {
    const std::size_t expected =
        464 + k * block(16) + first_block(32) + (k - 1) * block(32) + first_block(64) + (k - 1) * block(64) + 650;
    CHECK(parameter_count({.name = "resnet" + std::to_string(6 * k + 2)}) == expected);
  }
  CHECK(parameter_count({.name = "resnet20"}) == 272'474);
}

TEST_CASE("names, shapes and order are torchvision's") {
  for (const std::string model : {"resnet18", "resnet50", "resnet101", "vgg11", "vgg16_bn"}) {
    CAPTURE(model);
    const Graph graph = build_model({.name = model, .classes = 1000, .image_size = 224});
    const std::vector<std::string> expected = torchvision_state_names(model);
    CHECK(expected.size() > 20);
    CHECK(state_names(graph) == expected);
  }
}

TEST_CASE("every model builds for grey and colour and gives one logit per class") {
  for (const std::string& name : app::network_names()) {
    CAPTURE(name);
    for (const int channels : {1, 3}) {
      const Graph graph = build_model({.name = name, .classes = 17, .channels = channels});
      CHECK(graph.shape(graph.input()) == ImageShape{channels, 32, 32});
      CHECK(graph.shape(graph.output()) == ImageShape{17, 1, 1});
    }
  }
}

TEST_CASE("an unknown model is an input error that lists the known ones") {
  try {
    build_model({.name = "resnet19"});
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    const std::string message = error.what();
    CHECK(message.find("resnet19") != std::string::npos);
    for (const std::string& name : app::network_names()) CHECK(message.find(name) != std::string::npos);
  }
}

TEST_CASE("images too small for a model are an input error that says what to do") {
  CHECK_NOTHROW(build_model({.name = "lenet5", .image_size = 12}));
  for (const int image_size : {1, 4, 9}) {
    CAPTURE(image_size);
    try {
      build_model({.name = "lenet5", .image_size = image_size});
      FAIL_CHECK("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(std::string(error.what()).find("data.image_size") != std::string::npos);
    }
  }
}

TEST_CASE("convolutions of a ResNet start with kaiming_normal, fan_out") {
  const InitialState state(build_model({.name = "resnet18", .image_size = 64}));
  struct Expected {
    const char* name;
    int fan_out;
  };
  const Expected cases[] = {{"conv1.weight", 64 * 49},
                            {"layer1.0.conv1.weight", 64 * 9},
                            {"layer4.1.conv2.weight", 512 * 9},
                            {"layer3.0.downsample.0.weight", 256}};
  for (const Expected& c : cases) {
    CAPTURE(c.name);
    const std::span<const float> values = state.weight(c.name);
    const auto [mean, deviation, largest] = moments(values);
    const double expected = std::sqrt(2.0 / c.fan_out);
    const auto count = static_cast<double>(values.size());
    CHECK(std::abs(mean) <
          4 * expected / std::sqrt(count));  // four standard deviations of the estimate, here and below
    CHECK(std::abs(deviation / expected - 1) < 4 / std::sqrt(2 * count));
    CHECK(static_cast<double>(largest) > 2 * expected);
  }
}

TEST_CASE("linear layers and LeNet's convolutions start uniform within 1/sqrt(fan_in)") {
  const InitialState lenet(build_model({.name = "lenet5", .channels = 1, .image_size = 28}));
  const InitialState resnet(build_model({.name = "resnet20"}));
  struct Expected {
    std::span<const float> values;
    int fan_in;
  };
  const Expected cases[] = {{lenet.weight("conv2.weight"), 6 * 25},
                            {lenet.weight("fc1.weight"), 16 * 25},
                            {lenet.weight("fc1.bias"), 16 * 25},
                            {lenet.weight("fc2.weight"), 120},
                            {resnet.weight("fc.weight"), 64}};
  for (const Expected& c : cases) {
    CAPTURE(c.fan_in);
    const double bound = 1 / std::sqrt(static_cast<double>(c.fan_in));
    const auto [mean, deviation, largest] = moments(c.values);
    const auto count = static_cast<double>(c.values.size());
    CHECK(static_cast<double>(largest) <= bound * (1 + 1e-6));
    CHECK(static_cast<double>(largest) > 0.9 * bound);
    CHECK(std::abs(mean) < 4 * bound / std::sqrt(3 * count));
    CHECK(deviation == doctest::Approx(bound / std::sqrt(3.0)).epsilon(0.15));
  }
}

TEST_CASE("batch norms start at 1 and 0, their statistics at 0 and 1") {
  const Graph graph = build_model({.name = "resnet50"});
  const InitialState state(graph);
  for (const Node& node : graph.nodes()) {
    if (node.statistics.empty()) continue;
    CAPTURE(node.name);
    CHECK(all_equal(state.weight(node.name + ".weight"), 1));
    CHECK(all_equal(state.weight(node.name + ".bias"), 0));
    const auto& statistics = state.statistics.layout();
    CHECK(all_equal(state.statistics.slice(*statistics.find(node.name + ".running_mean")), 0));
    CHECK(all_equal(state.statistics.slice(*statistics.find(node.name + ".running_var")), 1));
  }
}

TEST_CASE("zero_init_residual zeroes the last batch norm of each branch and nothing else") {
  struct Case {
    const char* model;
    const char* last_batch_norm;
  };
  for (const Case& c : {Case{"resnet18", ".bn2"}, Case{"resnet50", ".bn3"}}) {
    CAPTURE(c.model);
    const Graph graph = build_model({.name = c.model, .zero_init_residual = true});
    const InitialState state(graph);
    for (const Node& node : graph.nodes()) {
      if (node.statistics.empty()) continue;
      CAPTURE(node.name);
      CHECK(all_equal(state.weight(node.name + ".weight"), node.name.ends_with(c.last_batch_norm) ? 0 : 1));
    }
  }
}

TEST_CASE("the initial weights are a function of the seed") {
  const Graph graph = build_model({.name = "resnet20"});
  const auto weights = [&](std::uint64_t seed) {
    const InitialState state(graph, seed);
    const auto values = state.weights.values();
    return std::vector<float>(values.begin(), values.end());
  };
  CHECK(weights(3) == weights(3));
  CHECK(weights(3) != weights(4));
  // Each parameter has its own stream: equal shapes do not mean equal values.
  const InitialState state(graph);
  CHECK_FALSE(std::ranges::equal(state.weight("layer1.0.conv1.weight"), state.weight("layer1.0.conv2.weight")));
}

namespace {

app::NetworkDescription described(const std::string& text) { return {.file = "net.yaml", .text = text}; }

/// What is wrong with a description; empty if nothing is.
std::string problem_of(const std::string& text, const app::NetworkSettings& settings = {}) {
  try {
    app::build_network(described(text), settings);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
}

}  // namespace

TEST_CASE("a description of one's own: blocks, variables, repetition, named sources") {
  const Graph graph = app::build_network(described(R"(
blocks:
  half: [{convolution: {name: conv, channels: $width, kernel: 3, stride: 2, padding: 1}}]
  pair:
    - half: {name: $first, width: $width}
    - batch_norm: {name: norm}
    - convolution: {name: side, src: in, channels: $width, stride: 2}
    - addition: {src: [norm, side], relu: true}
layers:
  - pair: {repeat: [0, 2], name: stage$i, first: a, width: 8}
  - global_average_pooling:
  - linear: {name: fc, features: $classes}
)"),
                                         {.classes = 5, .channels = 1, .image_size = 32});
  CHECK(graph.shape(graph.output()) == ImageShape{5, 1, 1});
  const auto layout = graph.parameter_layout();
  std::vector<std::string> names;
  for (const ParameterSlice& slice : layout->slices()) names.push_back(slice.name);
  REQUIRE(names.size() == 3 * 4 + 2);
  CHECK(names[0] == "stage0.a.conv.weight");
  CHECK(names[3] == "stage0.side.weight");
  CHECK(names[11] == "stage2.side.weight");
  CHECK(names[12] == "fc.weight");
  // 32 pixels, halved three times.
  CHECK(graph.shape(graph.nodes()[11].dst) == ImageShape{8, 4, 4});
}

TEST_CASE("what is no network is refused with its place") {
  CHECK(problem_of("layers: [{linear: {name: fc, features: 10}}]").empty());
  CHECK(problem_of("") == "net.yaml:1:1: expected a network: usual, blocks and layers");
  CHECK(problem_of("blocks: {}") == "net.yaml:1:1: layers is missing");
  CHECK(problem_of("layers: []") == "net.yaml:1:1: layers: expected at least one layer");
  CHECK(problem_of("layres: []") == "net.yaml:1:1: layres: expected usual, blocks, layers. Did you mean layers?");
  CHECK(problem_of("layers: [relu]") == "net.yaml:1:1: expected one layer, as \"- convolution: {name: conv1, …}\"");
  CHECK(problem_of("layers: [{rleu: }]") ==
        "net.yaml:1:11: rleu: there is no such kind of layer, and no such block before it. Did you mean relu?");
  CHECK(problem_of("layers: [{linear: {name: fc, features: $clases}}]") ==
        "net.yaml:1:30: features: there is no variable $clases here; there are $classes, $dropout, $residual_gamma");
  CHECK(problem_of("layers: [{linear: {name: fc, src: conv1, features: 10}}]").find("net.yaml:1:30: src:") == 0);
  CHECK(problem_of("{blocks: {b: [{relu: }]}, layers: [{b: {width: 8}}]}") ==
        "net.yaml:1:41: width: the block b has no $width");
  CHECK(problem_of("{blocks: {relu: []}, layers: []}") ==
        "net.yaml:1:11: relu: a block cannot have the name of a kind of layer");
  // A block may not use itself or later ones: no description is endless.
  CHECK(problem_of("{blocks: {b: [{b: }]}, layers: [{b: }]}").find("b: there is no such kind of layer") !=
        std::string::npos);
  CHECK(problem_of("{blocks: {b: [{relu: }]}, layers: [{b: {repeat: [1, 1000000000]}}]}").find("more than 10000") !=
        std::string::npos);
  CHECK(problem_of("layers: [{linear: {name: fc, features: 10, width: 3}}]").find("net.yaml:1:11: layer fc") == 0);
  CHECK(problem_of("layers: [{linear: {name: fc, features: 0}}]").find("features") != std::string::npos);
  CHECK(problem_of("layers: [{addition: }]").find("net.yaml:1:11:") == 0);
  CHECK(problem_of("layers: [{linear: {name: a, features: 10}}, {linear: {name: a, features: 10}}]")
            .find("a: another layer has this name") != std::string::npos);
}
