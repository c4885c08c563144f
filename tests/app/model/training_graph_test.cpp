#include "app/model/training_graph.h"

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/model/model.h"
#include "core/error.h"
#include "tests/support/file_helpers.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::error_of;

namespace {

Configuration configuration_of(const std::string& text) {
  return parse_configuration({.file_name = "run.yaml", .text = text, .overrides = {}});
}

nn::Graph graph_of(const std::string& text) {
  const Configuration configuration = configuration_of(text);
  return training_graph(model_card(configuration), configuration);
}

std::string refusal(const std::string& text) {
  return error_of([&] { graph_of(text); }).what();
}

}  // namespace

TEST_CASE("a pattern matches a parameter or a module that holds it") {
  const std::string name = "layer4.0.conv1.weight";
  for (const char* pattern : {"layer4", "layer4.0", "layer4.*", "layer[34]", "*.conv1", "*.weight",
                              "layer4.0.conv1.weight", "*", "layer?.0.conv?"}) {
    CAPTURE(pattern);
    CHECK(is_matched(name, pattern));
  }
  for (const char* pattern : {"layer", "layer40", "conv1", "0", "layer4.", "*.bias", "layer[12]", ""}) {
    CAPTURE(pattern);
    CHECK_FALSE(is_matched(name, pattern));
  }
}

TEST_CASE("the last group that matches counts, with all it says; model.freeze holds over all") {
  const nn::Graph graph = graph_of(R"(
model: {name: resnet20, freeze: [conv1, bn1]}
optimizer: {groups: [{match: "*", lr_factor: 0.1, weight_decay: 0.5}, {match: layer3, frozen: true},
                     {match: layer3.2, lr_factor: 2}, {match: "conv1", lr_factor: 7}]}
)");
  std::map<std::string, ParameterSlice> slices;
  const auto parameters = graph.parameter_layout();
  const auto statistics = graph.statistics_layout();
  for (const ParameterSlice& slice : parameters->slices()) slices.emplace(slice.name, slice);
  CHECK(slices.at("conv1.weight").is_frozen);
  CHECK(slices.at("bn1.bias").is_frozen);
  CHECK(slices.at("layer3.1.conv1.weight").is_frozen);
  const ParameterSlice& block = slices.at("layer3.2.conv1.weight");
  CHECK_FALSE(block.is_frozen);
  CHECK(block.rate_factor == 2);
  CHECK(block.weight_decay == std::nullopt);
  CHECK(slices.at("fc.bias").rate_factor == 0.1);
  CHECK(slices.at("fc.bias").weight_decay == 0.5F);
  for (const ParameterSlice& slice : statistics->slices()) {
    CAPTURE(slice.name);
    CHECK(slice.is_frozen == slices.at(slice.name.substr(0, slice.name.rfind('.')) + ".weight").is_frozen);
  }
}

TEST_CASE("a pattern for nothing is refused with what may be meant, and so is a run that trains nothing") {
  CHECK(refusal("{model: {freeze: [layer2, layr3]}}") ==
        "model.freeze: \"layr3\" matches no parameter of the network. Did you mean layer3?");
  CHECK(refusal("{optimizer: {groups: [{match: head, lr_factor: 10}]}}") ==
        "optimizer.groups: \"head\" matches no parameter of the network. Its modules are conv1, bn1, layer1, layer2, "
        "layer3, fc");
  CHECK(refusal("{model: {freeze: [\"*\"]}}") ==
        "model.freeze, optimizer.groups: all parameters are frozen, nothing is left to train; to evaluate a model use "
        "--eval");
}

TEST_CASE("what is frozen and what is trained begin as if nothing were frozen") {
  const std::string text =
      "{model: {name: resnet8, freeze: [layer1, \"*.bn1.weight\", fc.bias]}, data: {image_size: 8}}";
  const Configuration configuration = configuration_of(text);
  const nn::NetworkOptions options{.batch = 2};
  const Model model(graph_of(text), options, initial_weights(configuration), 0);
  Model whole(build_graph(model_card(configuration)), options, initial_weights(configuration), 0);
  CHECK(whole.frozen.values().empty());
  std::size_t tensors = 0;
  for (const ParameterArena* part : {&model.weights, &model.frozen}) {
    for (const ParameterSlice& slice : part->layout().slices()) {
      CAPTURE(slice.name);
      const bool is_statistic = slice.kind == ParameterKind::statistics;
      const ParameterArena& expected = is_statistic ? whole.statistics.local() : whole.weights;
      CHECK(std::ranges::equal(part->slice(slice), expected.slice(*expected.layout().find(slice.name))));
      ++tensors;
    }
  }
  const std::size_t all = whole.weights.layout().slices().size() + whole.statistics.local().layout().slices().size();
  CHECK(tensors + model.network.statistics_layout()->slices().size() == all);
}

TEST_CASE("the classifier is the last layer with parameters") {
  CHECK(classifier_of(graph_of("{model: {name: resnet18}, data: {image_size: 64}}")) == "fc");
  CHECK(classifier_of(graph_of("{model: {name: vgg11}, data: {image_size: 64}}")) == "classifier.6");
}
