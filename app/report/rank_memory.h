#pragma once

#include <cstddef>
#include <string>

#include "app/config/configuration.h"
#include "app/model/model.h"

namespace dcs3gd::app {

/// What rank 0 of a run keeps in memory, in bytes; the others keep no more.
struct RankMemory {
  std::size_t network = 0;  ///< activations, compute weights, scratch
  std::size_t arrays = 0;   ///< of the parameters' size: weights, gradients, updates
  std::size_t copy = 0;     ///< what a checkpoint is written from
  std::size_t batches = 0;  ///< made ahead, for training and evaluation
  std::size_t program = 0;  ///< with libraries, generated code, and data sets that are held in memory

  std::size_t total() const { return network + arrays + copy + batches + program; }
};

/// What is known from the network's description, before anything is built: all but `network` and `program`.
RankMemory plan_memory(const Configuration& configuration, const nn::Graph& graph);
RankMemory plan_memory(const Configuration& configuration, const Model& model);

/// "2434.1 MB per rank (network 1660.9, …)"
std::string memory_text(const RankMemory& memory);

}  // namespace dcs3gd::app
