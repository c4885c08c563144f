#pragma once

#include <string>

#include "app/config/network_reader.h"

/// The networks that come with the program, for tests of any folder.
namespace dcs3gd::test {

struct ModelOptions {
  std::string name = "resnet20";
  int classes = 10;
  int channels = 3;
  int image_size = 32;
  float dropout = 0.5F;
  bool zero_init_residual = false;
};

inline nn::Graph build_model(const ModelOptions& options) {
  return app::build_network(app::named_network(options.name), {.classes = options.classes,
                                                               .channels = options.channels,
                                                               .image_size = options.image_size,
                                                               .dropout = options.dropout,
                                                               .zero_init_residual = options.zero_init_residual});
}

}  // namespace dcs3gd::test
