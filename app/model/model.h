#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/rules/running_statistics.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// What its network computes with.
nn::NetworkOptions network_options(const Configuration& configuration, const nn::ConvolutionChoices& convolutions);

/// Where a model's first values come from.
struct InitialWeights {
  std::uint64_t seed = 1;                ///< of random values
  std::optional<std::string> file = {};  ///< .safetensors; none: all are random
  std::vector<std::string> skip = {};    ///< prefixes of tensors that stay random in spite of the file
  bool has_new_classifier = false;       ///< the last layer stays random in spite of the file
};
InitialWeights initial_weights(const Configuration& configuration);

/// A network with its weights: rank 0 draws or loads them, the others receive them.
struct Model {
  /// Not collective. Throws Error{input} for images too small for the model, a precision that this processor has not,
  /// and, on rank 0, for a file of weights that does not fit.
  Model(nn::Graph graph, const nn::NetworkOptions& options, const InitialWeights& initial, int rank);
  /// Collective: all ranks get rank 0's weights and running statistics, and the network what is frozen of them.
  void broadcast(comm::Communicator& communicator);

  nn::Graph graph;
  nn::Network network;
  ParameterArena weights;        ///< that are trained
  RunningStatistics statistics;  ///< that move
  ParameterArena frozen;         ///< parameters and statistics that stay as they are
  /// What else this process had in memory when the model was there: program, libraries, the code that oneDNN generates.
  std::size_t program_bytes = 0;
};

}  // namespace dcs3gd::app
