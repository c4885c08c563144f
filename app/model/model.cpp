#include "app/model/model.h"

#include <algorithm>
#include <utility>

#include "app/job/process_memory.h"
#include "app/model/safetensors.h"
#include "app/model/training_graph.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {

nn::NetworkOptions network_options(const Configuration& configuration, const nn::ConvolutionChoices& convolutions) {
  return {.batch = configuration.algorithm.images_per_pass(),
          .label_smoothing = configuration.algorithm.label_smoothing,
          .seed = configuration.run.seed,
          .precision = configuration.model.precision,
          .convolutions = convolutions};
}

InitialWeights initial_weights(const Configuration& configuration) {
  const ModelConfiguration& model = configuration.model;
  return {.seed = configuration.run.seed,
          .file = model.init,
          .skip = model.init_skip,
          .has_new_classifier = model.init_classifier == InitClassifier::anew};
}

Model::Model(nn::Graph the_graph, const nn::NetworkOptions& options, const InitialWeights& initial, int rank)
    : graph(std::move(the_graph)),
      network(graph, options),
      weights(network.parameter_layout()),
      statistics(network.statistics_layout()),
      frozen(network.frozen_layout()) {
  const std::size_t resident = resident_bytes();
  program_bytes = resident - std::min(resident, network.memory_bytes() + weights.values().size_bytes());
  if (rank != 0) return;
  const std::vector<ArenaPart<ParameterArena>> parts{&weights, &statistics.local(), &frozen};
  for (const auto& part : parts) nn::initialize(graph, initial.seed, *part.arena);
  if (!initial.file) return;
  std::vector<std::string> skip = initial.skip;
  if (initial.has_new_classifier) {
    skip.push_back(classifier_of(graph));
    log::info(format("{}: a new classifier of {} classes, {}, takes the place of the file's", *initial.file,
                     network.classes(), skip.back()));
  }
  load_safetensors(*initial.file, parts, skip);
}

void Model::broadcast(comm::Communicator& communicator) {
  communicator.broadcast(std::as_writable_bytes(weights.values()));
  communicator.broadcast(std::as_writable_bytes(statistics.local().values()));
  communicator.broadcast(std::as_writable_bytes(frozen.values()));
  network.set_frozen(frozen);
}

}  // namespace dcs3gd::app
