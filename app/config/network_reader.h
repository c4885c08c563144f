#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nn/graph/graph.h"

namespace dcs3gd::app {

/// A network as text: configs/README.md has the language, configs/networks the examples.
struct NetworkDescription {
  std::string file;  ///< for messages
  std::string text;  ///< YAML
};

/// What a description leaves open: its variables $classes, $dropout and $residual_gamma, and the images it sees.
struct NetworkSettings {
  int classes = 10;
  int channels = 3;                 ///< of the images
  int image_size = 32;              ///< pixels, square
  float dropout = 0.5F;             ///< VGG's
  bool zero_init_residual = false;  ///< $residual_gamma, the scale after each residual branch, starts at 0 instead of 1

  bool operator==(const NetworkSettings&) const = default;
};

/// Names of the networks that come with the program: the files of configs/networks, in the order of the
/// alphabet, numbers by value.
const std::vector<std::string>& network_names();
/// One of them. Throws Error{input} that lists the names if there is none.
NetworkDescription named_network(const std::string& name);
/// Reads a description from a file. Throws Error{input}.
NetworkDescription read_network_file(const std::string& path);

/// The images and classes of the network's usual data set.
NetworkSettings usual_settings(const NetworkDescription& description);
/// A named network for its usual data set, for benchmarks; `image_size` 0: the usual one.
nn::Graph usual_network(const std::string& name, int image_size = 0);
/// Builds the graph that is described. Throws Error{input} with file, line and column for what is no network, or one
/// that does not fit the images.
nn::Graph build_network(const NetworkDescription& description, const NetworkSettings& settings);

}  // namespace dcs3gd::app
