#include "app/model/training_graph.h"

#include <algorithm>
#include <vector>

#include <fnmatch.h>

#include "app/config/suggestion.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

/// "layer4", "layer4.0", "layer4.0.conv1", "layer4.0.conv1.weight"
std::vector<std::string> modules_and_name(std::string_view parameter) {
  std::vector<std::string> names;
  for (std::size_t dot = parameter.find('.'); dot != std::string_view::npos; dot = parameter.find('.', dot + 1)) {
    names.emplace_back(parameter.substr(0, dot));
  }
  names.emplace_back(parameter);
  return names;
}

void expect_match(const char* key, const std::string& pattern, const std::vector<ParameterSlice>& slices) {
  std::vector<std::string> known;
  std::vector<std::string> modules;  // at the top
  for (const ParameterSlice& slice : slices) {
    if (is_matched(slice.name, pattern)) return;
    const std::vector<std::string> names = modules_and_name(slice.name);
    known.insert(known.end(), names.begin(), names.end());
    if (modules.empty() || modules.back() != names.front()) modules.push_back(names.front());
  }
  const std::string near = did_you_mean(pattern, known);
  throw Error(ErrorKind::input, format("{}: \"{}\" matches no parameter of the network{}", key, pattern,
                                       near.empty() ? format(". Its modules are {}", fmt::join(modules, ", ")) : near));
}

}  // namespace

nn::Graph training_graph(const ModelCard& card, const Configuration& configuration) {
  nn::Graph graph = build_graph(card);
  const std::vector<ParameterGroup>& groups = configuration.optimizer.groups;
  const std::vector<std::string>& freeze = configuration.model.freeze;
  const auto layout = graph.parameter_layout();
  for (const ParameterGroup& group : groups) expect_match("optimizer.groups", group.match, layout->slices());
  for (const std::string& pattern : freeze) expect_match("model.freeze", pattern, layout->slices());
  graph.set_training([&](ParameterSlice& slice) {
    const auto matches = [&](const std::string& pattern) { return is_matched(slice.name, pattern); };
    for (const ParameterGroup& group : groups) {
      if (!matches(group.match)) continue;
      slice.is_frozen = group.frozen;
      slice.rate_factor = group.lr_factor;
      slice.weight_decay = group.weight_decay;
    }
    slice.is_frozen = slice.is_frozen || std::ranges::any_of(freeze, matches);
  });
  if (graph.parameter_layout()->part(false)->element_count() == 0) {
    throw Error(ErrorKind::input,
                "model.freeze, optimizer.groups: all parameters are frozen, nothing is left to train; to evaluate a "
                "model use --eval");
  }
  return graph;
}

bool is_matched(std::string_view parameter, const std::string& pattern) {
  return std::ranges::any_of(modules_and_name(parameter),
                             [&](const std::string& name) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

std::string classifier_of(const nn::Graph& graph) {
  std::string name;
  for (const nn::Node& node : graph.nodes()) {
    if (!node.parameters.empty()) name = node.name;
  }
  return name;
}

}  // namespace dcs3gd::app
