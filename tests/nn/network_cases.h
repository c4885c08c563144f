#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nn/graph/graph.h"

namespace dcs3gd::nn::test {

/// A small network that stresses one thing. In front of what is under test stands a layer with parameters: the gradient
/// that reaches it shows whether the data gradients it depends on are right.
struct NetworkCase {
  std::string name;
  ImageShape input;
  int batch = 1;
  std::function<void(Graph&)> build;

  Graph graph() const {
    Graph graph(input);
    build(graph);
    return graph;
  }
};

/// Every layer kind over shapes that bite, and graphs of odd topology.
const std::vector<NetworkCase>& network_cases();

}  // namespace dcs3gd::nn::test
