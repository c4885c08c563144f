#include "nn/plan/fusion.h"

#include <algorithm>

#include "nn/graph/layer_options.h"

namespace dcs3gd::nn {

std::vector<Node> fused_nodes(const Graph& graph) {
  const std::vector<int> readers = graph.reader_counts();
  std::vector<Node> nodes;
  for (const Node& node : graph.nodes()) {
    nodes.push_back(node);
    const auto* addition = node.as<Addition>();
    if (addition == nullptr) continue;
    for (std::size_t i = 0; i < node.src.size(); ++i) {
      const auto source = std::ranges::find(nodes, node.src[i], &Node::dst);
      if (source == nodes.end() || readers[static_cast<std::size_t>(node.src[i])] > 1) continue;
      const auto* batch_norm = source->as<BatchNorm>();
      if (batch_norm == nullptr || batch_norm->relu || source->src.size() > 1) continue;
      Node fused = *source;
      fused.options = BatchNorm{.relu = addition->relu, .epsilon = batch_norm->epsilon};
      fused.src.push_back(node.src[1 - i]);
      fused.dst = node.dst;
      nodes.back() = std::move(fused);
      nodes.erase(source);
      break;
    }
  }
  return nodes;
}

}  // namespace dcs3gd::nn
