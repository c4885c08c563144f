#include "tests/oracle/engine_run.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "app/rules/running_statistics.h"
#include "app/rules/table.h"
#include "comm/communicator.h"
#include "core/optim/learning_rate.h"
#include "nn/network.h"
#include "tests/oracle/formula.h"
#include "tests/support/named_networks.h"

namespace dcs3gd::oracle {
namespace {

std::vector<double> to_doubles(std::span<const float> values) { return {values.begin(), values.end()}; }

void add_sketch(Recording& results, const std::string& name, const std::vector<double>& values) {
  results.add(name, sketch(name, values));
}

/// Each tensor of an array under its name.
void add_sketches(Recording& results, const std::string& kind, const ParameterArena& arena) {
  for (const ParameterSlice& slice : arena.layout().slices()) {
    add_sketch(results, kind + "." + slice.name, to_doubles(arena.slice(slice)));
  }
}

/// Each parameter's way from its first value.
void add_changes(Recording& results, const ParameterArena& first, const ParameterArena& trained) {
  for (const ParameterSlice& slice : trained.layout().slices()) {
    std::vector<double> change = to_doubles(trained.slice(slice));
    std::ranges::transform(change, first.slice(slice), change.begin(), std::minus());
    add_sketch(results, "change." + slice.name, change);
  }
}

optim::LearningRateSchedule schedule_of(const Recording& settings) {
  const double batch_ratio = settings.setting("batch") / settings.setting("reference_batch");
  const optim::LearningRateOptions options{.base = settings.setting("base_rate"),
                                           .scaling = optim::LearningRateScaling::linear,
                                           .reference_batch = settings.integer_setting("reference_batch"),
                                           .warmup_epochs = settings.setting("warmup_epochs"),
                                           .warmup_start = batch_ratio * settings.setting("warmup_start"),
                                           .schedule = optim::ScheduleKind::linear,
                                           .milestones = {}};
  return {options, settings.integer_setting("epochs"), settings.integer_setting("steps_per_epoch"),
          settings.integer_setting("batch")};
}

/// Makes the batches of a recording.
class Batches {
 public:
  Batches(const nn::Graph& graph, const Recording& settings) : graph_(graph), settings_(settings) {}

  FormulaBatch step(int number) const { return named("step" + std::to_string(number)); }
  FormulaBatch evaluation() const { return named("evaluation"); }

 private:
  FormulaBatch named(const std::string& name) const {
    return {settings_.integer_setting("seed"), name, settings_.integer_setting("batch"), graph_.shape(graph_.input()),
            settings_.integer_setting("classes")};
  }

  const nn::Graph& graph_;
  const Recording& settings_;
};

void train(nn::Network& network, const Batches& batches, const Recording& settings, const TrainingRules& rules,
           const ModelState& first, EngineRun& run) {
  const auto communicator = comm::Communicator::open({});
  app::RunningStatistics statistics(network.statistics_layout());
  std::ranges::copy(first.statistics.values(), statistics.local().values().begin());
  std::optional<FormulaBatch> batch;
  std::vector<double> losses;
  const auto rule =
      app::make_rule({*communicator, network, statistics},
                     {.algorithm = {.name = rules.algorithm, .batch_per_worker = network.batch()}, .sgd = rules.sgd},
                     first.weights.copy());
  const optim::LearningRateSchedule schedule = schedule_of(settings);
  std::vector<double> rates;
  for (int step = 0; step < settings.integer_setting("steps"); ++step) {
    rates.push_back(schedule.at(rules.first_step + step));
    batch.emplace(batches.step(step + 1));
    rule->compute_gradients(step, [&] { return batch->view(network.batch()); });
    if (const auto report = rule->receive()) losses.push_back(report->loss);
    rule->update_and_send(rates.back(), {});
    add_sketch(run.results, "logits.step" + std::to_string(step + 1), to_doubles(network.logits()));
  }
  for (const app::StepReport& report : rule->drain()) losses.push_back(report.loss);
  rule->copy_mean_model(run.trained.weights);
  std::ranges::copy(statistics.local().values(), run.trained.statistics.values().begin());
  run.results.add("learning_rates", rates);
  run.results.add("losses", losses);
}

void evaluate(nn::Network& network, const Batches& batches, int images, EngineRun& run) {
  network.set_weights(run.trained.weights);
  network.set_running_statistics(run.trained.statistics);
  const nn::BatchResult result = network.evaluate(batches.evaluation().view(images));
  run.results.add("evaluation.loss", {result.loss_sum / static_cast<double>(result.images)});
  run.results.add("evaluation.top1", {static_cast<double>(result.correct_top1)});
  run.results.add("evaluation.top5", {static_cast<double>(result.correct_top5)});
  const auto valid = static_cast<std::size_t>(images) * static_cast<std::size_t>(network.classes());
  add_sketch(run.results, "logits.evaluation", to_doubles(network.logits().first(valid)));
}

}  // namespace

ModelState::ModelState(const nn::Graph& graph)
    : weights(graph.parameter_layout()), statistics(graph.statistics_layout()) {}

nn::Graph graph_of(const std::string& model, const Recording& settings) {
  return dcs3gd::test::build_model({.name = model,
                                    .classes = settings.integer_setting("classes"),
                                    .channels = settings.integer_setting("channels"),
                                    .image_size = settings.integer_setting("image_size"),
                                    .dropout = 0});
}

ModelState first_state(const nn::Graph& graph, const Recording& settings) {
  ModelState state(graph);
  fill_first_values(settings.integer_setting("seed"), state.weights);
  fill_first_values(settings.integer_setting("seed"), state.statistics);
  return state;
}

TrainingRules::TrainingRules(const Recording& settings)
    : sgd{.momentum = static_cast<float>(settings.setting("momentum")),
          .weight_decay = static_cast<float>(settings.setting("weight_decay"))},
      label_smoothing(static_cast<float>(settings.setting("label_smoothing"))) {}

EngineRun run_engine(const nn::Graph& graph, const Recording& settings, const TrainingRules& rules,
                     const ModelState& first) {
  nn::Network network(graph, {.batch = settings.integer_setting("batch"), .label_smoothing = rules.label_smoothing});
  const Batches batches(graph, settings);
  EngineRun run{.results = {}, .gradient = ParameterArena(network.parameter_layout()), .trained = ModelState(graph)};
  network.set_weights(first.weights);
  network.compute_gradient(batches.step(1).view(network.batch()), {}, run.gradient);
  add_sketches(run.results, "gradient", run.gradient);
  train(network, batches, settings, rules, first, run);
  add_changes(run.results, first.weights, run.trained.weights);
  add_sketches(run.results, "statistics", run.trained.statistics);
  evaluate(network, batches, settings.integer_setting("evaluation_images"), run);
  return run;
}

}  // namespace dcs3gd::oracle
