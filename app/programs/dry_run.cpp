#include "app/programs/dry_run.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/job/agreement.h"
#include "app/job/process_memory.h"
#include "app/job/stop_signals.h"
#include "app/model/datasets.h"
#include "app/model/model.h"
#include "app/model/model_card.h"
#include "app/model/random_batch.h"
#include "app/model/training_graph.h"
#include "app/model/tuning.h"
#include "app/record/run_folder.h"
#include "app/report/preflight.h"
#include "app/report/rank_memory.h"
#include "app/report/start_report.h"
#include "app/rules/table.h"
#include "app/train/fresh_plan.h"
#include "core/format.h"
#include "core/log.h"
#include "core/optim/learning_rate.h"
#include "data/dataset.h"
#include "data/formats.h"

namespace dcs3gd::app {
namespace {

constexpr int kSteps = 2;

void print_layers(const Model& model) {
  std::printf("%-28s %-14s %-16s %12s\n", "layer", "kind", "output (CxHxW)", "parameters");
  for (const nn::LayerInfo& layer : model.network.layers()) {
    const char* frozen = layer.frozen == 0 ? "" : layer.frozen < layer.parameters ? "  in part frozen" : "  frozen";
    std::printf("%-28s %-14s %-16s %12zu%s\n", layer.name.c_str(), layer.kind.c_str(), layer.dst.to_string().c_str(),
                layer.parameters, frozen);
  }
}

/// Both parts of the data.
struct DataReport {
  std::vector<std::shared_ptr<const data::Dataset>> datasets;  ///< open, as in a run
  std::vector<std::string> descriptions;                       ///< of both
  std::vector<std::string> warnings;
  std::int64_t steps_per_epoch = 0;  ///< 0: not known
};

/// Collective: one part of the data, opened and checked. A plan may be made where the data are not: then that is all it
/// says.
void describe_data(const Configuration& configuration, data::Part part, comm::Communicator& communicator,
                   DataReport& report, std::string listing = {}) {
  const bool is_training = part == data::Part::train;
  const auto presence = communicator.all_gather(data::is_data_present(configuration.data, part) ? "present" : "absent");
  if (std::ranges::count(presence, "absent") > 0) {
    report.descriptions.push_back(format(
        "not on {}: {}; nothing of it was checked", presence.front() == "absent" ? "this machine" : "every machine",
        is_training || configuration.data.split > 0 ? configuration.data.train : configuration.data.eval));
    report.warnings.push_back(
        format("the {} data are {}", is_training ? "training" : "evaluation", report.descriptions.back()));
    return;
  }
  const auto dataset =
      open_dataset(configuration.data, part, configuration.run.seed, configuration.model.classes, communicator,
                   report.datasets.empty() ? std::vector<std::string>() : report.datasets.front()->class_names(),
                   std::move(listing));
  report.datasets.push_back(dataset);
  report.descriptions.push_back(dataset->description());
  if (!is_training) return;
  agree(communicator, [&] { report.steps_per_epoch = steps_per_epoch(configuration, communicator.size(), *dataset); });
}

DataReport describe_data(const Configuration& configuration, comm::Communicator& communicator, std::string listing) {
  DataReport report;
  describe_data(configuration, data::Part::train, communicator, report, std::move(listing));
  describe_data(configuration, data::Part::eval, communicator, report);
  return report;
}

/// What the run would say at its start.
RunPlan run_plan(const Configuration& configuration, const DataReport& data, int ranks, const std::string& command) {
  const AlgorithmOptions& algorithm = configuration.algorithm;
  const std::int64_t steps_per_epoch = data.steps_per_epoch;
  const std::int64_t steps = configuration.run.epochs * steps_per_epoch;
  const optim::LearningRateSchedule schedule(
      configuration.optimizer.lr, configuration.run.epochs, std::max<std::int64_t>(steps_per_epoch, 1),
      std::int64_t{algorithm.workers_per_rank} * algorithm.batch_per_worker * ranks);
  return {.command = command,
          .folder = RunFolder(configuration.run.output_dir, configuration.run.name).path(),
          .training_data = data.descriptions.front(),
          .evaluation_data = data.descriptions.back(),
          .training_images = steps_per_epoch > 0 ? std::int64_t{data.datasets.front()->size()} : 0,
          .steps_per_epoch = steps_per_epoch,
          .steps = std::min(steps, configuration.run.max_steps.value_or(steps)),
          .peak_learning_rate = schedule.peak()};
}

/// Before any of it is taken: where there is too little, the system may end the process on the way.
void print_least_memory(const RankMemory& least, std::size_t available) {
  constexpr double kMegabyte = 1e6;
  std::printf("memory: at least %.1f MB per rank, the network's own not counted; %.1f MB free\n\n",
              static_cast<double>(least.total()) / kMegabyte, static_cast<double>(available) / kMegabyte);
  std::fflush(stdout);
}

void print_rows(const std::vector<ReportRow>& rows) {
  std::printf("\n");
  for (const std::string& line : format_rows(rows)) std::printf("%s\n", line.c_str());
}

void print_plan(const Configuration& configuration, const Model& model, std::string_view all_reduce,
                const RankMemory& memory, const std::vector<RankUse>& ranks, std::vector<ReportRow> rows) {
  std::ranges::copy(plan_rows(configuration, model, all_reduce, memory, ranks), std::back_inserter(rows));
  print_rows(rows);
  std::printf("\nparameters: %zu\n", model.graph.parameter_layout()->element_count());
}

/// Takes a few steps on random images at a learning rate of 0. Collective. Returns the last one.
StepReport run_steps(const Configuration& configuration, comm::Communicator& communicator, Model& model,
                     const RandomBatch& batch) {
  RuleOptions options = rule_options(configuration);
  options.algorithm.fresh = plan_fresh_share(configuration, communicator, model);
  const auto rule = make_rule({communicator, model.network, model.statistics}, options, model.weights.copy());
  StepReport last;
  const auto print = [&](const StepReport& report) {
    last = report;
    if (communicator.rank() != 0) return;
    std::printf("step %lld on random images: loss %.4f, %.1f ms, nothing learnt\n",
                static_cast<long long>(report.step) + 1, report.loss, report.step_ms);
  };
  for (int step = 0; step < kSteps; ++step) {
    rule->compute_gradients(step, [&] { return batch.view(); });
    if (const auto report = rule->receive()) print(*report);
    rule->update_and_send(0, {});
  }
  for (const StepReport& report : rule->drain()) print(report);
  return last;
}

/// The slowest rank's. Collective.
double largest(comm::Communicator& communicator, double mine) { return std::ranges::max(communicator.gather(mine)); }

}  // namespace

void dry_run(const Configuration& configuration, comm::Communicator& communicator, const ThreadPlan& threads,
             const std::string& command, std::string listing) {
  expect_shared(communicator, RunFolder(configuration.run.output_dir, configuration.run.name));
  std::optional<TimeLimit> time_limit;
  agree(communicator, [&] { time_limit.emplace(configuration.run.time_limit_minutes, std::getenv); });
  const std::size_t at_start = resident_bytes();
  const std::size_t available = available_bytes();
  communicator.barrier();  // what is free, before any rank takes of it
  std::optional<nn::Graph> graph;
  const ModelCard card = card_of_rank_0(communicator, [&] { return model_card(configuration); });
  agree(communicator, [&] { graph.emplace(training_graph(card, configuration)); });
  if (communicator.rank() == 0) print_least_memory(plan_memory(configuration, *graph), available);
  const DataReport data = describe_data(configuration, communicator, std::move(listing));
  const RunPlan plan = run_plan(configuration, data, communicator.size(), command);
  const nn::ConvolutionChoices convolutions = tune_convolutions(*graph, configuration, communicator);
  std::optional<Model> built;
  agree(communicator, [&] {
    built.emplace(std::move(*graph), network_options(configuration, convolutions), initial_weights(configuration),
                  communicator.rank());
  });
  Model& model = *built;
  model.broadcast(communicator);
  const std::vector<RankUse> ranks = gather_rank_uses(communicator, threads.compute);
  const RankMemory memory = plan_memory(configuration, model);
  const bool prints = communicator.rank() == 0;
  if (prints) {
    print_layers(model);
    print_plan(configuration, model, communicator.algorithm_for(model.weights.layout().element_count()), memory, ranks,
               run_rows(configuration, plan));
    warn_of_start(configuration, plan, ranks);
    if (data.datasets.size() == 2) {
      warn_of_data({data.datasets.front(), data.datasets.back()}, configuration.model.classes);
    }
  }
  const RandomBatch batch(configuration.algorithm.batch_per_worker, model.graph.shape(model.graph.input()),
                          configuration.model.classes, static_cast<std::uint64_t>(communicator.rank()));
  const StepReport last = run_steps(configuration, communicator, model, batch);

  const auto parameters = static_cast<std::int64_t>(model.weights.layout().element_count());
  const PreflightFacts facts{
      .compute_ms = largest(communicator, last.compute_ms),
      .all_reduce_ms = measure_all_reduce_ms(configuration, communicator, model.weights.layout().element_count()),
      .all_reduce_bytes =
          all_reduce_bytes(configuration, communicator.algorithm_for(static_cast<std::size_t>(parameters)), parameters,
                           communicator.size()),
      .checkpoint_bytes = checkpoint_bytes(configuration, model, communicator.size()),
      .model_bytes =
          static_cast<std::int64_t>(model.weights.values().size_bytes() + model.frozen.values().size_bytes()),
      .free_disk_bytes = free_disk_bytes(configuration.run.output_dir),
      .time_limit_s = time_limit->left_s(),
      .steps_per_epoch = plan.steps_per_epoch,
      .steps = plan.steps};
  const Preflight found = preflight(
      configuration, gather_needs(communicator, memory.total() - std::min(memory.total(), at_start), available), facts);
  if (!prints) return;
  print_rows(found.rows);
  for (const std::string& warning : found.warnings) log::warn(warning);
  for (const std::string& warning : data.warnings) log::warn(warning);
}

}  // namespace dcs3gd::app
