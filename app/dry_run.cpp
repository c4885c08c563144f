#include "app/dry_run.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/agreement.h"
#include "app/convolutions.h"
#include "app/datasets.h"
#include "app/model.h"
#include "app/random_batch.h"
#include "app/start_report.h"
#include "app/update_algorithm.h"
#include "core/format.h"
#include "core/log.h"
#include "data/dataset.h"
#include "data/sampler.h"

namespace dcs3gd::app {
namespace {

constexpr int kSteps = 2;

void print_layers(const Model& model) {
  std::printf("%-28s %-14s %-16s %12s\n", "layer", "kind", "output (CxHxW)", "parameters");
  for (const nn::LayerInfo& layer : model.network.layers()) {
    std::printf("%-28s %-14s %-16s %12zu\n", layer.name.c_str(), layer.kind.c_str(), layer.dst.to_string().c_str(),
                layer.parameters);
  }
}

/// Collective: one part of the data, opened and checked. A plan may be made where the data are not: then that is all it
/// says.
std::string describe_data(const Configuration& configuration, data::Part part, comm::Communicator& communicator) {
  const bool is_training = part == data::Part::train;
  const auto presence = communicator.all_gather(data::is_data_present(configuration.data, part) ? "present" : "absent");
  if (std::ranges::count(presence, "absent") > 0) {
    return format("not on {}: {}; nothing of it was checked",
                  presence.front() == "absent" ? "this machine" : "every machine",
                  is_training ? configuration.data.train : configuration.data.eval);
  }
  const auto dataset = open_dataset(configuration, part, communicator);
  if (!is_training) return dataset->description();
  std::int64_t steps_per_epoch = 0;
  agree(communicator, [&] {
    const data::Sampler sampler({.workers_per_rank = configuration.algorithm.workers_per_rank,
                                 .workers = configuration.algorithm.workers_per_rank * communicator.size(),
                                 .batch_per_worker = configuration.algorithm.batch_per_worker},
                                dataset->size(), configuration.data.shuffle);
    steps_per_epoch = sampler.steps_per_epoch();
  });
  return format("{}; {} steps per epoch", dataset->description(), steps_per_epoch);
}

void print_plan(const Configuration& configuration, const Model& model, const std::vector<RankUse>& ranks,
                std::vector<ReportRow> rows) {
  std::printf("\n");
  std::ranges::copy(plan_rows(configuration, model, ranks), std::back_inserter(rows));
  for (const std::string& line : format_rows(rows)) std::printf("%s\n", line.c_str());
  std::printf("\nparameters: %zu\n", model.weights.layout().element_count());
}

}  // namespace

void dry_run(const Configuration& configuration, comm::Communicator& communicator, const ThreadPlan& threads,
             const std::string& command) {
  const nn::ConvolutionChoices convolutions = choose_convolutions(configuration, communicator);
  std::vector<ReportRow> data_rows{{"training data", describe_data(configuration, data::Part::train, communicator)},
                                   {"evaluation data", describe_data(configuration, data::Part::eval, communicator)}};
  std::optional<Model> built;
  agree(communicator, [&] { built.emplace(configuration, convolutions, communicator.rank()); });
  Model& model = *built;
  model.broadcast(communicator);
  const std::vector<RankUse> ranks = gather_rank_uses(communicator, threads.compute);
  const bool prints = communicator.rank() == 0;
  if (prints) {
    print_layers(model);
    print_plan(configuration, model, ranks, std::move(data_rows));
    for (const std::string& line : placement_warnings(ranks, command)) log::warn(line);
  }
  const RandomBatch batch(configuration.algorithm.batch_per_worker, model.graph.shape(model.graph.input()),
                          configuration.model.classes, static_cast<std::uint64_t>(communicator.rank()));
  const AlgorithmSurroundings surroundings{.communicator = communicator,
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
                                                   const auto step = static_cast<long long>(record.step) + 1;
                                                   std::printf("step %lld on random images: loss %.4f, %.1f ms\n", step,
                                                               record.loss, record.step_ms);
                                                 }
                                               }};
  const auto algorithm = make_update_algorithm(surroundings, model.weights);
  for (int step = 0; step < kSteps; ++step) algorithm->step(step, 0);
  algorithm->drain(model.weights);
}

}  // namespace dcs3gd::app
