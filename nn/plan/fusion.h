#pragma once

#include <vector>

#include "nn/graph/graph.h"

namespace dcs3gd::nn {

/// Returns the graph's layers, each batch norm fused with the addition that alone reads it: a batch norm with two
/// sources, at the addition's place. What is added passes through memory once less in each direction. The graph itself
/// knows nothing of it.
std::vector<Node> fused_nodes(const Graph& graph);

}  // namespace dcs3gd::nn
