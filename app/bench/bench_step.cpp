#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "app/config/network_reader.h"
#include "app/job/agreement.h"
#include "app/job/threads.h"
#include "app/model/random_batch.h"
#include "app/model/tuning.h"
#include "app/rules/table.h"
#include "comm/thread_world.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "nn/convolution/tuning.h"

namespace dcs3gd::app {
namespace {

constexpr double kLearningRate = 1e-3;

nn::ConvolutionChoices measured_by_rank_0(const nn::Graph& graph, const StepBenchOptions& options,
                                          comm::Communicator& communicator) {
  nn::ConvolutionChoices choices;
  agree_on_rank_0(communicator, "timing convolutions", [&](const SignOfLife& on_timed) {
    nn::measure_convolutions(graph, options.batch, nn::Precision::fp32, choices, on_timed);
  });
  return choices_of_rank_0(communicator, choices);
}

/// What a rank does beside its network's computing.
class Pauses {
 public:
  Pauses(const StepBenchOptions& options, int rank)
      : options_(options),
        factor_(rank == 0 ? options.slow_rank : 1),
        random_(1, RandomPurpose::test, static_cast<std::uint64_t>(rank)) {}

  void pause() {
    if (options_.pause_ms == 0) return;
    const double chance = -std::log(1.0 - static_cast<double>(random_.uniform()));
    const double ms = factor_ * options_.pause_ms * (1 + options_.jitter * chance);
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms));
  }

 private:
  const StepBenchOptions& options_;
  const double factor_;
  RandomStream random_;
};

/// One way to train, with its own state, on the shared network.
class Contender {
 public:
  Contender(const RuleParts& parts, const RuleOptions& options, const ParameterArena& weights, const RandomBatch& batch,
            Pauses& pauses)
      : rule_(make_rule(parts, options, weights.copy())), next_batch_([&batch, &pauses] {
          pauses.pause();
          return batch.view();
        }) {}

  /// The first step is not counted: its all-reduce meets no computing before it.
  void run_round(int steps) {
    std::vector<StepReport> round;
    rule_->load_network();
    for (int step = 0; step <= steps; ++step) {
      rule_->compute_gradients(steps_++, next_batch_);
      if (const auto report = rule_->receive()) round.push_back(*report);
      rule_->update_and_send(kLearningRate, {});
    }
    std::ranges::copy(rule_->drain(), std::back_inserter(round));
    reports_.insert(reports_.end(), round.begin() + 1, round.end());
  }

  TimingSummary summary_of(double StepReport::*time) const {
    std::vector<double> samples;
    for (const StepReport& report : reports_) samples.push_back(report.*time);
    return summarize(samples);
  }
  /// Throughput follows from it, also where steps differ.
  double mean_step_ms() const {
    double sum = 0;
    for (const StepReport& report : reports_) sum += report.step_ms;
    return sum / static_cast<double>(reports_.size());
  }
  void forget() { reports_.clear(); }

 private:
  std::unique_ptr<UpdateRule> rule_;
  const BatchSource next_batch_;
  std::vector<StepReport> reports_;
  std::int64_t steps_ = 0;
};

}  // namespace

void bench_step(const StepBenchOptions& options) {
  const auto* const wire = std::ranges::find(comm::kWires, options.wire, &comm::WireInfo::name);
  comm::Options comm{.wire = wire->wire};
  if (comm::is_narrow(comm.wire)) comm.algorithm = comm::kAutomatic;
  const auto communicator = comm::Communicator::open(comm);
  use_threads(options.threads > 0 ? std::optional<int>(options.threads) : std::nullopt, *communicator);
  const nn::Graph graph = usual_network(options.model, options.image_size);
  nn::Network network(graph,
                      {.batch = options.batch, .convolutions = measured_by_rank_0(graph, options, *communicator)});
  ParameterArena weights(network.parameter_layout());
  RunningStatistics statistics(network.statistics_layout());
  nn::initialize(graph, 1, weights, statistics.local());
  const RandomBatch batch(options.batch, graph.shape(graph.input()), network.classes(),
                          static_cast<std::uint64_t>(communicator->rank()));

  RuleOptions rule{.algorithm = recommended_algorithm(), .wire = comm.wire};
  rule.algorithm.name = options.algorithm;
  rule.algorithm.fresh = options.fresh;
  rule.algorithm.batch_per_worker = options.batch;
  comm::Communicator alone([] { return comm::open_thread_transport(comm::make_thread_world(1), 0); }, comm);
  Pauses pauses(options, communicator->rank());
  Contender with({*communicator, network, statistics}, rule, weights, batch, pauses);
  Contender without({alone, network, statistics}, rule, weights, batch, pauses);
  for (int round = -1; round < options.rounds; ++round) {
    for (Contender* contender : {&with, &without}) {
      communicator->barrier();
      contender->run_round(options.steps);
    }
    if (round < 0) {  // warmed up
      with.forget();
      without.forget();
    }
  }
  communicator->barrier();
  if (communicator->rank() != 0) return;

  const TimingSummary step = with.summary_of(&StepReport::step_ms);
  const TimingSummary compute = without.summary_of(&StepReport::step_ms);
  const double all_reduce_ms = with.summary_of(&StepReport::all_reduce_ms).median;
  const double wait_ms = with.summary_of(&StepReport::wait_ms).median;
  const double images_per_s = 1e3 * options.batch * communicator->size() / with.mean_step_ms();
  if (options.json) {
    const nlohmann::ordered_json line = {
        {"bench", "step"},        {"algorithm", options.algorithm},      {"fresh", options.fresh},
        {"wire", options.wire},   {"ranks", communicator->size()},       {"compute_ms", compute.median},
        {"step_ms", step.median}, {"mean_step_ms", with.mean_step_ms()}, {"all_reduce_ms", all_reduce_ms},
        {"wait_ms", wait_ms},     {"images_per_s", images_per_s},        {"n", step.n}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf("%s, batch %d per worker, %s, wire %s, %d ranks\n", options.model.c_str(), options.batch,
              options.algorithm.c_str(), options.wire.c_str(), communicator->size());
  std::printf("step          %s  %.2f img/s\n", format_ms(step).c_str(), images_per_s);
  std::printf("compute alone %s\n", format_ms(compute).c_str());
  std::printf("all-reduce    median %.3f ms, waited for %.3f ms; step / compute = %.3f\n", all_reduce_ms, wait_ms,
              step.median / compute.median);
}

}  // namespace dcs3gd::app
