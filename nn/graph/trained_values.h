#pragma once

#include <vector>

#include "nn/graph/graph.h"

namespace dcs3gd::nn {

/// Whether a layer has parameters that are trained.
bool is_trained(const Graph& graph, const Node& node);

/// By value: whether backward computes its gradient, because the layer that makes it, or one before that, has
/// parameters that are trained. Backward ends where that is not so.
std::vector<bool> trained_values(const Graph& graph);

}  // namespace dcs3gd::nn
