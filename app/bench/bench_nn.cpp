#include <algorithm>
#include <cstdio>
#include <vector>

#include <nlohmann/json.hpp>
#include <omp.h>
#include <sys/resource.h>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "app/config/network_reader.h"
#include "app/job/threads.h"
#include "app/model/random_batch.h"
#include "app/rules/table.h"
#include "core/error.h"
#include "core/format.h"
#include "core/stopwatch.h"
#include "nn/convolution/bound.h"
#include "nn/convolution/tuning.h"
#include "nn/onednn/cpu.h"

namespace dcs3gd::app {
namespace {

constexpr int kWarmUpSteps = 2;
constexpr double kLearningRate = 1e-3;

std::size_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

void print_times(const std::vector<nn::KindTime>& times, int steps) {
  double total = 0;
  for (const nn::KindTime& time : times) total += time.seconds;
  for (const nn::KindTime& time : times) {
    std::printf("  %-16s %9.3f ms %5.1f %%\n", time.kind.c_str(), 1e3 * time.seconds / steps,
                100 * time.seconds / total);
  }
}

}  // namespace

void bench_nn(const NnBenchOptions& options) {
  use_team(options.threads > 0 ? options.threads : omp_get_max_threads());
  const nn::Graph graph = usual_network(options.model, options.image_size);
  nn::ConvolutionChoices convolutions;
  if (!options.direct) nn::measure_convolutions(graph, options.batch, options.precision, convolutions);
  nn::Network network(graph, {.batch = options.batch, .precision = options.precision, .convolutions = convolutions});
  const std::string precision = options.precision == nn::Precision::bf16 ? "bf16" : "fp32";
  RunningStatistics statistics(network.statistics_layout());
  ParameterArena weights(network.parameter_layout());
  nn::initialize(graph, 1, weights, statistics.local());
  network.set_weights(weights);
  network.set_running_statistics(statistics.local());
  const RandomBatch batch(options.batch, graph.shape(graph.input()), network.classes(), 0);

  const auto communicator = comm::Communicator::open({});
  const auto rule = make_rule({*communicator, network, statistics},
                              {.algorithm = {.name = "ssgd", .batch_per_worker = options.batch}}, std::move(weights));
  const BatchSource next_batch = [&] { return batch.view(); };
  const auto take_step = [&](std::int64_t step) {
    if (options.evaluate) {
      network.evaluate(batch.view());
      return;
    }
    rule->compute_gradients(step, next_batch);
    rule->receive();
    rule->update_and_send(kLearningRate, {});
  };
  for (int step = 0; step < kWarmUpSteps; ++step) take_step(step);
  const std::size_t peak_bytes = peak_memory_bytes();
  nn::ConvolutionBound bound(graph, options.batch, options.precision, !options.evaluate);

  std::vector<double> step_ms;
  std::vector<double> bound_ms;
  network.reset_times();
  for (int step = 0; step < options.steps; ++step) {
    const Stopwatch watch;
    take_step(kWarmUpSteps + step);
    step_ms.push_back(watch.elapsed_ms());
    bound_ms.push_back(1e3 * bound.run());
  }
  rule->drain();

  const TimingSummary steps = summarize(step_ms);
  const TimingSummary bounds = summarize(bound_ms);
  const double images_per_s = 1e3 * options.batch / steps.median;
  const double bound_images_per_s = 1e3 * options.batch / bounds.median;
  if (options.json) {
    const nlohmann::ordered_json line = {{"bench", "nn"},
                                         {"model", options.model},
                                         {"batch", options.batch},
                                         {"pass", options.evaluate ? "evaluation" : "training"},
                                         {"precision", precision},
                                         {"threads", omp_get_max_threads()},
                                         {"images_per_s", images_per_s},
                                         {"bound_images_per_s", bound_images_per_s},
                                         {"peak_memory_bytes", peak_bytes},
                                         {"n", steps.n},
                                         {"step_ms_min", steps.min},
                                         {"step_ms_median", steps.median},
                                         {"step_ms_p99", steps.p99}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf("%s, batch %d, %s, %d threads, %s\n", options.model.c_str(), options.batch, precision.c_str(),
              omp_get_max_threads(), nn::instruction_set().c_str());
  std::printf("%s  %s  %.1f img/s\n", options.evaluate ? "evaluation   " : "training step", format_ms(steps).c_str(),
              images_per_s);
  std::printf("bound          %s  %.1f img/s  (convolutions and linear layers alone)\n", format_ms(bounds).c_str(),
              bound_images_per_s);
  std::printf("share of the bound %.3f, peak memory %.1f MB\n", images_per_s / bound_images_per_s,
              static_cast<double>(peak_bytes) / 1e6);
  print_times(network.times(), options.steps);
}

}  // namespace dcs3gd::app
