#include "app/report/rank_memory.h"

#include "app/rules/table.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr double kMegabyte = 1e6;

/// Beside the network: the mean model as evaluated and saved, and what the rule keeps.
std::size_t parameter_arrays(const Configuration& configuration) {
  const AlgorithmOptions& algorithm = configuration.algorithm;
  const std::size_t averages = configuration.model.ema_decay ? 2 : 0;  // as it goes on, and as evaluated
  return 1 + averages + find_rule(algorithm.name).arrays(algorithm, configuration.comm.wire).all;
}

/// Rank 0's copy of what a checkpoint is written from: the mean model and the rule's state.
std::size_t copied_arrays(const Configuration& configuration) {
  if (!configuration.checkpoint.is_periodic()) return 0;
  const ArrayCount arrays =
      find_rule(configuration.algorithm.name).arrays(configuration.algorithm, configuration.comm.wire);
  const std::size_t averages = configuration.model.ema_decay ? 1 : 0;
  const std::size_t shared = 1 + averages + arrays.saved_shared;
  if (configuration.checkpoint.workers == CheckpointWorkers::average) return shared + arrays.saved_per_worker;
  const auto workers = static_cast<std::size_t>(configuration.algorithm.workers_per_rank);
  return shared + workers * arrays.saved_per_worker + arrays.saved_per_rank;
}

/// Of both loaders: an evaluation has its own beside that of training.
std::size_t batch_bytes(const Configuration& configuration) {
  const data::DataOptions& options = configuration.data;
  const auto size = static_cast<std::size_t>(options.image_size);
  const std::size_t image = static_cast<std::size_t>(options.channels) * size * size * sizeof(float);
  const auto training = static_cast<std::size_t>(configuration.algorithm.batch_per_worker);
  const auto evaluation = static_cast<std::size_t>(configuration.algorithm.images_per_pass());
  const std::size_t batches =
      options.loader.threads == 0 ? 1 : static_cast<std::size_t>(options.loader.prefetch_batches) + 1;
  return batches * (training + evaluation) * image;
}

}  // namespace

RankMemory plan_memory(const Configuration& configuration, const nn::Graph& graph) {
  const auto parameters = graph.parameter_layout();
  const std::size_t array = parameters->part(false)->element_count() * sizeof(float);
  const std::size_t frozen = parameters->part(true)->element_count() * sizeof(float);
  return {.arrays = parameter_arrays(configuration) * array + frozen,
          .copy = copied_arrays(configuration) * array,
          .batches = batch_bytes(configuration)};
}

RankMemory plan_memory(const Configuration& configuration, const Model& model) {
  RankMemory memory = plan_memory(configuration, model.graph);
  memory.network = model.network.memory_bytes();
  memory.program = model.program_bytes;
  return memory;
}

std::string memory_text(const RankMemory& memory) {
  const auto megabytes = [](std::size_t bytes) { return static_cast<double>(bytes) / kMegabyte; };
  return format(
      "{:.1f} MB per rank (network {:.1f}, weights and optimizer {:.1f}, copy for checkpoints {:.1f}, batches {:.1f}, "
      "program {:.1f})",
      megabytes(memory.total()), megabytes(memory.network), megabytes(memory.arrays), megabytes(memory.copy),
      megabytes(memory.batches), megabytes(memory.program));
}

}  // namespace dcs3gd::app
