#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "app/bench/schedule_replay.h"
#include "app/config/network_reader.h"
#include "app/job/threads.h"
#include "app/model/random_batch.h"
#include "app/rules/fresh_part.h"
#include "app/rules/table.h"
#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/aligned_buffer.h"
#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "core/stopwatch.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kWarmUpSteps = 4;
constexpr std::size_t kSumFloats = 16;  // that every step tells of itself
// The default of torch.nn.parallel.DistributedDataParallel.
constexpr std::size_t kDdpBucketFloats = (std::size_t{25} << 20) / sizeof(float);

// As small messages see it, one way.
constexpr std::array kNetworks{
    NetworkPreset{"10g", 10, 48, "TCP in a cloud: half of 92 to 100 us, blogs.scalablelogic.com, 2014"},
    NetworkPreset{"25g", 25, 48, "TCP, as for 10g: the wire is not what it waits for"},
    NetworkPreset{"100g", 100, 1.93, "Open MPI past the kernel, 40 Gbit/s Ethernet, blogs.cisco.com"},
    NetworkPreset{"200g", 200, 1.2, "HDR InfiniBand, docs.azure.cn, HBv3 performance"},
};

const NetworkPreset* preset_of(const std::string& name) {
  const auto* const found = std::ranges::find(kNetworks, name, &NetworkPreset::name);
  return found == kNetworks.end() ? nullptr : found;
}

// --- what is measured ---

/// A training step on this machine: where its time goes, and how it varies.
struct Compute {
  StepProfile profile;   ///< of the passes, in a median step
  double median_ms = 0;  ///< of a step: the passes, then the update
  std::vector<double> samples_ms;
  std::shared_ptr<const ParameterLayout> layout;
};

/// Steps of the rule without other ranks, as `dcs3gd-bench step` measures them.
std::vector<double> measure_steps(const ScaleBenchOptions& options, comm::Communicator& alone, nn::Network& network,
                                  const nn::Graph& graph, const RandomBatch& batch) {
  ParameterArena weights(network.parameter_layout());
  RunningStatistics statistics(network.statistics_layout());
  nn::initialize(graph, 1, weights, statistics.local());
  const RuleParts parts{alone, network, statistics};
  const auto rule = make_rule(parts, {.algorithm = {.name = "dc_s3gd", .fresh = 0, .batch_per_worker = options.batch}},
                              std::move(weights));
  std::vector<double> samples_ms;
  for (int step = 0; step < options.steps + 2; ++step) {
    rule->compute_gradients(step, [&] { return batch.view(); });
    if (const auto report = rule->receive(); report && report->step > 0) samples_ms.push_back(report->compute_ms);
    rule->update_and_send(1e-3, {});
  }
  rule->drain();
  return samples_ms;
}

Compute measure_compute(const ScaleBenchOptions& options) {
  comm::Communicator alone([] { return comm::open_thread_transport(comm::make_thread_world(1), 0); }, {});
  use_threads(options.threads > 0 ? std::optional<int>(options.threads) : std::nullopt, alone);
  const nn::Graph graph = usual_network(options.model, options.image_size);
  nn::Network network(graph, {.batch = options.batch});
  const RandomBatch batch(options.batch, graph.shape(graph.input()), network.classes(), 0);
  Compute compute{.profile = {},
                  .samples_ms = measure_steps(options, alone, network, graph, batch),
                  .layout = network.parameter_layout()};
  compute.profile = profile_passes(network, batch.view());
  const TimingSummary measured = summarize(compute.samples_ms);
  compute.median_ms = options.compute_ms > 0 ? options.compute_ms : measured.median;
  if (options.compute_ms > 0) compute.samples_ms = {options.compute_ms};
  // The fastest passes are compared with the fastest step: on a busy machine others say little of where time goes.
  const double stretch = compute.median_ms / std::max(measured.min, compute.profile.compute_ms);
  compute.profile.compute_ms *= stretch;
  for (SliceTimes& times : compute.profile.slices) {
    times.needed_ms *= stretch;
    times.ready_ms *= stretch;
  }
  return compute;
}

double median_all_reduce_ms(comm::Communicator& communicator, std::span<float> values, int repetitions) {
  auto plan = communicator.plan_all_reduce(
      {.values = values, .wire = comm::Wire::fp32, .algorithm = &comm::find_algorithm("ring")});
  std::vector<double> times_ms;
  for (int i = 0; i < repetitions; ++i) {
    communicator.barrier();
    times_ms.push_back(plan.start().wait().all_reduce_ms);
  }
  return summarize(times_ms).median;
}

double measure_ms_per_float() {
  constexpr std::size_t kFloats = std::size_t{1} << 18;  // a segment's size does not matter to the cache's next level
  constexpr int kRepetitions = 20;
  AlignedBuffer<float> incoming(kFloats);
  AlignedBuffer<float> sum(kFloats);
  std::fill(incoming.begin(), incoming.end(), 0.0F);
  std::fill(sum.begin(), sum.end(), 0.0F);
  std::vector<double> times_ms;
  for (int i = 0; i < kRepetitions; ++i) {
    const Stopwatch watch;
    add(incoming.span(), sum.span());
    times_ms.push_back(watch.elapsed_ms());
  }
  return summarize(times_ms).median / kFloats;
}

/// Half of a ring's time for almost nothing and for much, on the ranks of this job; nothing if there are no others.
std::optional<NetworkModel> measure_network(comm::Communicator& communicator) {
  constexpr std::size_t kFloats = std::size_t{1} << 22;
  if (communicator.size() == 1) return std::nullopt;
  AlignedBuffer<float> values(kFloats);
  std::fill(values.begin(), values.end(), 1.0F);
  const double hops = 2.0 * (communicator.size() - 1);
  const double few_ms = median_all_reduce_ms(communicator, values.span().first(kSumFloats), 30);
  const double all_ms = median_all_reduce_ms(communicator, values.span(), 5);
  const double bytes = hops / communicator.size() * kFloats * sizeof(float);
  return NetworkModel{.latency_ms = few_ms / hops, .bytes_per_ms = bytes / std::max(all_ms - few_ms, 1e-6)};
}

/// Measured, else that of the preset; what is given overrules both.
NetworkModel network_of(const ScaleBenchOptions& options, std::optional<NetworkModel> measured) {
  NetworkModel network = measured.value_or(NetworkModel{.message_ms = 1e-3});
  if (const NetworkPreset* preset = preset_of(options.network)) {
    network = {.latency_ms = 1e-3 * preset->latency_us, .bytes_per_ms = 1.25e5 * preset->gbit_s, .message_ms = 1e-3};
  }
  if (options.latency_us) network.latency_ms = 1e-3 * *options.latency_us;
  if (options.gbit_s) network.bytes_per_ms = 1.25e5 * *options.gbit_s;
  if (options.message_us) network.message_ms = 1e-3 * *options.message_us;
  network.buffer_bytes = 1024 * options.buffer_kib;
  if (network.bytes_per_ms == 0) {
    throw Error(ErrorKind::input,
                "dcs3gd-bench scale: which network? Choose one (--network), give --latency-us and --gbit-s, or start "
                "it by mpirun on two hosts, whose link it then measures");
  }
  network.ms_per_float = options.sum_gb_s ? sizeof(float) / (1e6 * *options.sum_gb_s) : measure_ms_per_float();
  return network;
}

// --- what is predicted ---

struct Scenario {
  const char* rule;
  std::vector<Average> averages;
};

std::vector<Scenario> scenarios(const Compute& compute, double fresh) {
  const auto fresh_averages = [&](std::size_t bucket_floats) {
    return averages_of_step(*compute.layout, compute.profile, 0, bucket_floats);
  };
  // The sums of a step leave at its end; they are waited for before gradients change the model, or with the updates.
  const auto with_sums = [&](std::vector<Average> all) {
    const double first_needed_ms = std::ranges::min(all, {}, &Average::needed_ms).needed_ms;
    all.insert(all.begin(), {.elements = kSumFloats, .needed_ms = first_needed_ms, .ready_ms = compute.median_ms});
    return all;
  };
  const auto at_the_end = [](std::vector<Average> all) {
    for (Average& average : all) average.ends_its_step = true;
    return all;
  };
  const auto overlapped = [&](double share) {
    const std::size_t first_fresh = first_fresh_slice(*compute.layout, share);
    std::vector<Average> all = averages_of_step(*compute.layout, compute.profile, first_fresh);
    if (first_fresh > 0) all.back().ready_ms = compute.median_ms;  // the update of the stale part
    return with_sums(std::move(all));
  };
  return {{"ssgd", overlapped(1)},
          {"ssgd_barrier", at_the_end(fresh_averages(kBucketElements))},
          {"dc_s3gd", overlapped(0)},
          {"dc_s3gd_fresh", overlapped(fresh)},
          {"ddp", at_the_end(fresh_averages(kDdpBucketFloats))}};
}

/// The paces of all ranks in all steps, drawn from the measured ones: the same for each rule.
class Paces {
 public:
  Paces(const ScaleBenchOptions& options, const Compute& compute, int ranks, std::size_t steps) : ranks_(ranks) {
    paces_.resize(static_cast<std::size_t>(ranks) * steps);
    const double random_ms = options.jitter * (options.pause_ms + compute.median_ms);
    for (int rank = 0; rank < ranks; ++rank) {
      RandomStream random(1, RandomPurpose::test, static_cast<std::uint64_t>(rank));
      for (std::size_t step = 0; step < steps; ++step) {
        const double sample = compute.samples_ms[random.below(static_cast<std::uint32_t>(compute.samples_ms.size()))];
        const double chance = -std::log(1.0 - static_cast<double>(random.uniform()));
        const bool is_straggler = static_cast<double>(random.uniform()) < options.straggler_share;
        const double slower = (rank == 0 ? options.slow_rank : 1) * (is_straggler ? options.straggler_factor : 1);
        paces_[at(step, rank)] = {.late_ms = slower * (options.pause_ms + random_ms * chance),
                                  .factor = slower * sample / compute.median_ms};
      }
    }
  }

  const Pace& operator()(std::size_t step, int rank) const { return paces_[at(step, rank)]; }

 private:
  std::size_t at(std::size_t step, int rank) const {
    return step * static_cast<std::size_t>(ranks_) + static_cast<std::size_t>(rank);
  }

  const int ranks_;
  std::vector<Pace> paces_;
};

/// What an ordinary rank's step takes without the others, on average.
double alone_ms(const ScaleBenchOptions& options, const Compute& compute) {
  double sum_ms = 0;
  for (const double sample : compute.samples_ms) sum_ms += sample;
  const double usual_ms = options.pause_ms + options.jitter * (options.pause_ms + compute.median_ms) +
                          sum_ms / static_cast<double>(compute.samples_ms.size());
  return usual_ms * (1 + options.straggler_share * (options.straggler_factor - 1));
}

struct Prediction {
  StepTimes times;
  double all_reduce_ms = 0;  ///< if all were started at once
  bool is_replayed = false;
};

Prediction predict(const ScaleBenchOptions& options, const Scenario& scenario, const StepPlan& plan,
                   const NetworkModel& network, int ranks, const PaceOf& pace) {
  const comm::AlgorithmInfo& algorithm = comm::find_algorithm(options.algorithm);
  const bool is_replayed = ranks <= options.replay_ranks;
  std::map<std::size_t, LinkTime> alone;
  std::vector<std::size_t> elements;
  std::vector<LinkTime> times;
  std::vector<Average> at_once;
  for (const Average& average : scenario.averages) {
    elements.push_back(average.elements);
    at_once.push_back({.elements = average.elements, .ends_its_step = true});
    if (is_replayed) continue;
    if (!alone.contains(average.elements)) {
      alone[average.elements] = replay_alone(algorithm, ranks, average.elements, network);
    }
    times.push_back(alone[average.elements]);
  }
  const auto run = [&](const StepPlan& steps_plan, const PaceOf& pace_of, std::size_t warm_up, std::size_t steps) {
    return is_replayed ? replay_steps(steps_plan, elements, algorithm, network, ranks, pace_of, warm_up, steps)
                       : predict_steps(steps_plan, times, ranks, pace_of, warm_up, steps);
  };
  const PaceOf as_planned = [](std::size_t, int) { return Pace(); };
  return {.times = run(plan, pace, kWarmUpSteps, static_cast<std::size_t>(options.predicted_steps)),
          .all_reduce_ms = run({at_once, 0}, as_planned, 0, 1).step_ms,
          .is_replayed = is_replayed};
}

void print_inputs(const ScaleBenchOptions& options, const Compute& compute, const NetworkModel& network) {
  const double latency_us = 1e3 * network.latency_ms;
  const double gbit_s = network.bytes_per_ms / 1.25e5;
  const double sum_gb_s = sizeof(float) / (1e6 * network.ms_per_float);
  const std::string source = options.network.empty() ? "given or measured" : preset_of(options.network)->source;
  if (options.json) {
    const nlohmann::ordered_json line = {{"bench", "scale"},
                                         {"inputs", true},
                                         {"model", options.model},
                                         {"batch", options.batch},
                                         {"parameters", compute.layout->element_count()},
                                         {"compute_ms", compute.samples_ms},
                                         {"alone_ms", alone_ms(options, compute)},
                                         {"pause_ms", options.pause_ms},
                                         {"jitter", options.jitter},
                                         {"straggler_share", options.straggler_share},
                                         {"straggler_factor", options.straggler_factor},
                                         {"slow_rank", options.slow_rank},
                                         {"fresh", options.fresh},
                                         {"algorithm", options.algorithm},
                                         {"latency_us", latency_us},
                                         {"gbit_s", gbit_s},
                                         {"message_us", 1e3 * network.message_ms},
                                         {"sum_gb_s", sum_gb_s},
                                         {"buffer_kib", options.buffer_kib},
                                         {"latency_source", source}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf("%s, %zu parameters, batch %d a rank; compute %s\n", options.model.c_str(),
              static_cast<std::size_t>(compute.layout->element_count()), options.batch,
              format_ms(summarize(compute.samples_ms)).c_str());
  std::printf("%s over links of %.3f Gbit/s, latency %.1f us (%s); sums %.1f GB/s\n\n", options.algorithm.c_str(),
              gbit_s, latency_us, source.c_str(), sum_gb_s);
  std::printf("%6s %4s  %-14s %11s %11s %11s %8s %12s %6s\n", "ranks", "bits", "rule", "step ms", "all-reduce",
              "wait ms", "overlap", "img/s", "eff.");
}

void print(const ScaleBenchOptions& options, const char* rule, int ranks, double bits, double usual_ms,
           const Prediction& prediction) {
  const double step_ms = prediction.times.step_ms;
  const double images_per_s = 1e3 * options.batch * ranks / step_ms;
  const double overlap =
      prediction.all_reduce_ms > 0 ? std::max(0.0, 1 - prediction.times.wait_ms / prediction.all_reduce_ms) : 1;
  if (options.json) {
    const nlohmann::ordered_json line = {{"bench", "scale"},
                                         {"rule", rule},
                                         {"ranks", ranks},
                                         {"bits", bits},
                                         {"step_ms", step_ms},
                                         {"all_reduce_ms", prediction.all_reduce_ms},
                                         {"wait_ms", prediction.times.wait_ms},
                                         {"overlap", overlap},
                                         {"images_per_s", images_per_s},
                                         {"efficiency", usual_ms / step_ms},
                                         {"is_replayed", prediction.is_replayed}};
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%6d %4g  %-14s %11.3f %11.3f %11.3f %8.3f %12.1f %6.3f\n", ranks, bits, rule, step_ms,
                prediction.all_reduce_ms, prediction.times.wait_ms, overlap, images_per_s, usual_ms / step_ms);
  }
  std::fflush(stdout);
}

}  // namespace

std::span<const NetworkPreset> network_presets() { return kNetworks; }

void bench_scale(const ScaleBenchOptions& options) {
  std::optional<NetworkModel> measured;
  {
    const auto communicator = comm::Communicator::open({});
    measured = measure_network(*communicator);
    if (communicator->rank() != 0) return;
  }
  const NetworkModel network = network_of(options, measured);
  for (const int ranks : options.ranks) {
    if (ranks > options.replay_ranks) replay_alone(comm::find_algorithm(options.algorithm), ranks, 1, network);
  }
  const Compute compute = measure_compute(options);
  print_inputs(options, compute, network);
  const double usual_ms = alone_ms(options, compute);
  const std::vector<Scenario> all = scenarios(compute, options.fresh);
  for (const int ranks : options.ranks) {
    const Paces paces(options, compute, ranks, kWarmUpSteps + static_cast<std::size_t>(options.predicted_steps));
    for (const Scenario& scenario : all) {
      const StepPlan plan(scenario.averages, compute.median_ms);
      for (const double bits : options.bits) {
        NetworkModel narrow = network;
        narrow.bits = bits;
        ScaleBenchOptions possible = options;
        const bool is_narrow = bits < comm::info_of(comm::Wire::bf16).bits();
        if (is_narrow && !comm::find_algorithm(options.algorithm).rounds_twice) possible.algorithm = "direct";
        print(possible, scenario.rule, ranks, bits, usual_ms,
              predict(possible, scenario, plan, narrow, ranks, std::cref(paces)));
      }
    }
  }
}

}  // namespace dcs3gd::app
