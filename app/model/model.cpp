#include "app/model/model.h"

#include <algorithm>
#include <utility>

#include "app/job/process_memory.h"
#include "app/model/safetensors.h"

namespace dcs3gd::app {

nn::NetworkOptions network_options(const Configuration& configuration, const nn::ConvolutionChoices& convolutions) {
  return {.batch = configuration.algorithm.images_per_pass(),
          .label_smoothing = configuration.algorithm.label_smoothing,
          .seed = configuration.run.seed,
          .precision = configuration.model.precision,
          .convolutions = convolutions};
}

InitialWeights initial_weights(const Configuration& configuration) {
  return {.seed = configuration.run.seed, .file = configuration.model.init, .skip = configuration.model.init_skip};
}

Model::Model(nn::Graph the_graph, const nn::NetworkOptions& options, const InitialWeights& initial, int rank)
    : graph(std::move(the_graph)),
      network(graph, options),
      weights(network.parameter_layout()),
      statistics(network.statistics_layout()) {
  const std::size_t resident = resident_bytes();
  program_bytes = resident - std::min(resident, network.memory_bytes() + weights.values().size_bytes());
  if (rank != 0) return;
  nn::initialize(graph, initial.seed, weights, statistics.local());
  if (initial.file) load_safetensors(*initial.file, {&weights, &statistics.local()}, initial.skip);
}

void Model::broadcast(comm::Communicator& communicator) {
  communicator.broadcast(std::as_writable_bytes(weights.values()));
  communicator.broadcast(std::as_writable_bytes(statistics.local().values()));
}

}  // namespace dcs3gd::app
