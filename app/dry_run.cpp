#include "app/dry_run.h"

#include <cstdio>
#include <string>
#include <vector>

#include "app/model.h"
#include "app/random_batch.h"
#include "app/update_algorithm.h"
#include "core/format.h"
#include "nn/cpu.h"

namespace dcs3gd::app {
namespace {

constexpr double kMegabyte = 1e6;
constexpr int kSteps = 2;

/// Floats that the algorithm keeps beside the network: see app/update_algorithm.cpp.
std::size_t algorithm_arrays(const AlgorithmConfiguration& algorithm) {
  const auto workers = static_cast<std::size_t>(algorithm.workers_per_rank);
  constexpr std::size_t kPerRank = 2;
  constexpr std::size_t kPerWorker = 3;
  constexpr std::size_t kSsgd = 4;
  return algorithm.name == AlgorithmName::ssgd ? kSsgd + (workers > 1 ? 1 : 0) : kPerRank + kPerWorker * workers;
}

std::string cores_text(const std::vector<int>& cores) { return format("{}", fmt::join(cores, ",")); }

void print_layers(const Model& model) {
  std::printf("%-28s %-14s %-16s %12s\n", "layer", "kind", "output (CxHxW)", "parameters");
  for (const nn::LayerInfo& layer : model.network.layers()) {
    std::printf("%-28s %-14s %-16s %12zu\n", layer.name.c_str(), layer.kind.c_str(), layer.dst.to_string().c_str(),
                layer.parameters);
  }
}

void print_plan(const Configuration& configuration, const comm::Communicator& communicator, const ThreadPlan& threads,
                const Model& model) {
  const std::size_t parameters = model.weights.layout().element_count();
  const double arrays = static_cast<double>(algorithm_arrays(configuration.algorithm) * parameters * sizeof(float));
  const double network = static_cast<double>(model.network.memory_bytes());
  const std::size_t wire_bytes = configuration.comm.wire == comm::Wire::bf16 ? 2 : 4;
  std::printf("\nmodel: %s, %d classes, images %dx%dx%d\n", configuration.model.name.c_str(),
              configuration.model.classes, configuration.data.channels, configuration.data.image_size,
              configuration.data.image_size);
  std::printf("parameters: %zu\n", parameters);
  std::printf("workers: %d (%d ranks x %d), batch %d each\n",
              communicator.size() * configuration.algorithm.workers_per_rank, communicator.size(),
              configuration.algorithm.workers_per_rank, configuration.algorithm.batch_per_worker);
  std::printf("memory per rank: %.1f MB (network %.1f MB, weights and optimizer %.1f MB)\n",
              (network + arrays) / kMegabyte, network / kMegabyte, arrays / kMegabyte);
  std::printf("all-reduce: %zu bytes per step and rank\n", communicator.size() > 1 ? parameters * wire_bytes : 0);
  std::printf("instruction set: %s\n", nn::instruction_set().c_str());
  for (int rank = 0; rank < communicator.size(); ++rank) {
    const comm::RankPlace& place = communicator.places()[static_cast<std::size_t>(rank)];
    std::printf("rank %d: host %s, cores %s%s\n", rank, place.host.c_str(), cores_text(place.cores).c_str(),
                rank == 0 ? format(", {} threads", threads.compute).c_str() : "");
  }
}

}  // namespace

void dry_run(const Configuration& configuration, comm::Communicator& communicator, const ThreadPlan& threads) {
  Model model(configuration, communicator);
  const bool prints = communicator.rank() == 0;
  if (prints) {
    print_layers(model);
    print_plan(configuration, communicator, threads, model);
  }
  const RandomBatch batch(configuration.algorithm.batch_per_worker, model.graph.shape(model.graph.input()),
                          configuration.model.classes, static_cast<std::uint64_t>(communicator.rank()));
  const AlgorithmSurroundings surroundings{
      .communicator = communicator,
      .network = model.network,
      .running_statistics = model.statistics,
      .algorithm = configuration.algorithm,
      .sgd = configuration.optimizer.sgd,
      .wire = configuration.comm.wire,
      .loss_limit = {},
      .next_batch = [&] { return batch.view(); },
      .on_step =
          [&](const StepRecord& record) {
            if (prints) {
              std::printf("step %lld on random images: loss %.4f, %.1f ms\n", static_cast<long long>(record.step + 1),
                          record.loss, record.step_ms);
            }
          }};
  const auto algorithm = make_update_algorithm(surroundings, model.weights);
  for (int step = 0; step < kSteps; ++step) algorithm->step(step, 0);
  ParameterArena mean_model(model.network.parameter_layout());
  algorithm->drain(mean_model);
}

}  // namespace dcs3gd::app
