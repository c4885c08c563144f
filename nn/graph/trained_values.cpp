#include "nn/graph/trained_values.h"

#include <algorithm>

namespace dcs3gd::nn {

bool is_trained(const Graph& graph, const Node& node) {
  const auto parameters = graph.parameter_layout();
  return std::ranges::any_of(node.parameters,
                             [&](std::size_t parameter) { return !parameters->slices()[parameter].is_frozen; });
}

std::vector<bool> trained_values(const Graph& graph) {
  std::vector<bool> trained(graph.value_count());
  for (const Node& node : graph.nodes()) {
    const bool inherited =
        std::ranges::any_of(node.src, [&](ValueId value) { return trained[static_cast<std::size_t>(value)]; });
    trained[static_cast<std::size_t>(node.dst)] = inherited || is_trained(graph, node);
  }
  return trained;
}

}  // namespace dcs3gd::nn
