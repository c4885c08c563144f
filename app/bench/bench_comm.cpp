#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "comm/communicator.h"
#include "core/aligned_buffer.h"
#include "core/format.h"
#include "core/optim/worker_update.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

using comm::Communicator;
using comm::NativeCall;
using comm::Wire;

constexpr std::size_t kSizes[] = {kSmallestCommSize, 16384, 262144, 1048576, 4194304, 25557032};
constexpr std::size_t kMinRepetitions = 5;
constexpr std::size_t kMaxRepetitions = 200;

/// One way to sum; returns its milliseconds on this rank.
struct Contender {
  std::string_view algorithm;
  Wire wire;
  std::function<double()> run_ms;
};

/// Per repetition the time of the slowest rank.
std::vector<double> slowest(Communicator& communicator, std::vector<double> times) {
  for (double& time : times) time = std::ranges::max(communicator.gather(time));
  return times;
}

/// GB/s that a rank copies from memory to memory while all ranks do: what the ring could reach at most between ranks of
/// one machine, where each byte that travels is copied once.
double copy_limit_gb_s(Communicator& communicator, std::span<float> from, std::span<float> to) {
  constexpr int kRepetitions = 5;
  std::vector<double> times_s;
  for (int i = 0; i < kRepetitions; ++i) {
    communicator.barrier();
    const Stopwatch stopwatch;
    std::memcpy(to.data(), from.data(), from.size_bytes());
    times_s.push_back(stopwatch.elapsed_s());
  }
  return static_cast<double>(from.size_bytes()) / summarize(slowest(communicator, times_s)).median / 1e9;
}

/// Every rank must repeat equally often: rank 0's first round decides.
std::size_t repetitions(Communicator& communicator, double round_s, double budget_s) {
  communicator.broadcast(std::as_writable_bytes(std::span(&round_s, 1)));
  return std::clamp(static_cast<std::size_t>(budget_s / round_s), kMinRepetitions, kMaxRepetitions);
}

void print(const CommBenchOptions& options, const Contender& contender, int ranks, std::size_t floats,
           const TimingSummary& summary, double limit_gb_s) {
  const double travelled = 2.0 * (ranks - 1) / ranks * static_cast<double>(comm::wire_bytes(contender.wire, floats));
  const double bus_gb_s = travelled / summary.median / 1e6;
  if (options.json) {
    std::puts(format(R"({{"bench":"comm","algorithm":"{}","wire":"{}","ranks":{},"floats":{},"n":{},"min_ms":{:.4f},)"
                     R"("median_ms":{:.4f},"p99_ms":{:.4f},"bus_gb_s":{:.4f},"limit_gb_s":{:.4f}}})",
                     contender.algorithm, comm::info_of(contender.wire).name, ranks, floats, summary.n, summary.min,
                     summary.median, summary.p99, bus_gb_s, limit_gb_s)
                  .c_str());
  } else {
    std::puts(format("{:>10}  {:<14} {:<4}  {:>4} {:>10.3f} {:>10.3f} {:>10.3f} {:>10.2f} {:>10.2f}", floats,
                     contender.algorithm, comm::info_of(contender.wire).name, summary.n, summary.min, summary.median,
                     summary.p99, bus_gb_s, limit_gb_s)
                  .c_str());
  }
  std::fflush(stdout);
}

/// What is not averaged of a synchronous step.
struct Model {
  explicit Model(std::size_t floats) : weights(floats), update(floats) {}

  /// As a step of training does, from where the averages lie.
  void apply(std::size_t first, std::span<const float> mean_gradient) {
    optim::apply_mean_gradient({.momentum = 0.9F, .learning_rate = 1e-3F}, 1, mean_gradient,
                               weights.span().subspan(first, mean_gradient.size()),
                               update.span().subspan(first, mean_gradient.size()));
  }

  AlignedBuffer<float> weights;
  AlignedBuffer<float> update;
};

/// Every algorithm of ours on every wire that it carries, and the bare calls of MPI; with a model each with the update
/// that reads the averages, and that alone. The plans are made here, not timed.
std::vector<Contender> contenders_of(Communicator& communicator, std::span<float> values, std::span<float> sums,
                                     Model* model) {
  std::vector<Contender> contenders;
  const auto update_ms = [model](std::span<const comm::ResultPart> averages) {
    const Stopwatch stopwatch;
    for (const comm::ResultPart& part : averages) {
      if (model != nullptr) model->apply(part.first, part.values);
    }
    return stopwatch.elapsed_ms();
  };
  for (const comm::WireInfo& info : comm::kWires) {
    const Wire wire = info.wire;
    for (const comm::AlgorithmInfo& algorithm : comm::algorithms()) {
      if (algorithm.is_native() || !algorithm.carries(wire) || (algorithm.shares_memory && wire != Wire::fp32))
        continue;
      const auto plan = std::make_shared<comm::AllReducePlan>(communicator.plan_all_reduce(
          {.values = values, .leaves_parts = model != nullptr, .wire = wire, .algorithm = &algorithm}));
      if (plan->algorithm() != algorithm.name) continue;
      contenders.push_back({algorithm.name, wire, [plan, update_ms] {
                              const Stopwatch stopwatch;
                              plan->start().wait();
                              const double all_reduce_ms = stopwatch.elapsed_ms();
                              return all_reduce_ms + update_ms(plan->parts());
                            }});
    }
  }
  const auto add_native = [&](std::string_view name, NativeCall call) {
    if (!communicator.time_native_all_reduce(call, {}, {})) return;
    const std::span<const float> source = call == NativeCall::in_place ? sums : values;
    contenders.push_back({name, Wire::fp32, [&communicator, call, source, sums, update_ms] {
                            const double all_reduce_ms =
                                communicator.time_native_all_reduce(call, source, sums).value_or(0);
                            return all_reduce_ms + update_ms(std::array{comm::ResultPart{0, sums}});
                          }});
  };
  add_native("mpi", NativeCall::two_buffers);
  add_native("mpi_in_place", NativeCall::in_place);
  add_native("mpi_iallreduce", NativeCall::nonblocking);
  if (model != nullptr) {
    contenders.push_back({"update", Wire::fp32, [values, update_ms] {
                            return update_ms(std::array{comm::ResultPart{0, values}});
                          }});
  }
  return contenders;
}

}  // namespace

void bench_comm(const CommBenchOptions& options) {
  comm::Options settings = options.comm;
  settings.algorithm = comm::kSharedMemory;  // the others need nothing that this does not have
  const auto communicator = Communicator::open(settings);
  const std::shared_ptr<float> memory = communicator->allocate(options.max_floats);
  const std::span values(memory.get(), options.max_floats);
  AlignedBuffer<float> sums(options.max_floats);
  std::optional<Model> model;
  if (options.update) model.emplace(options.max_floats);
  std::fill(values.begin(), values.end(), 1.0F);  // an average of ones stays one

  const bool prints = communicator->rank() == 0;
  const double limit_gb_s = copy_limit_gb_s(*communicator, values, sums.span());
  if (prints && !options.json) {
    std::puts(format("{:>10}  {:<14} {:<4}  {:>4} {:>10} {:>10} {:>10} {:>10} {:>10}", "floats", "algorithm", "wire",
                     "n", "min ms", "median ms", "p99 ms", "bus GB/s", "limit GB/s")
                  .c_str());
  }
  for (const std::size_t floats : kSizes) {
    if (floats > options.max_floats) break;
    std::fill(sums.begin(), sums.end(), 0.0F);  // the in-place sums must not grow to infinity
    const std::vector<Contender> contenders =
        contenders_of(*communicator, values.first(floats), sums.span().first(floats), model ? &*model : nullptr);
    const auto one_round = [&](std::vector<std::vector<double>>* times_ms) {
      for (std::size_t i = 0; i < contenders.size(); ++i) {
        communicator->barrier();
        const double time_ms = contenders[i].run_ms();
        if (times_ms != nullptr) (*times_ms)[i].push_back(time_ms);
      }
    };
    const Stopwatch warm_up;
    one_round(nullptr);
    const std::size_t rounds = repetitions(*communicator, warm_up.elapsed_s(), options.seconds_per_size);
    std::vector<std::vector<double>> times_ms(contenders.size());
    for (std::size_t round = 0; round < rounds; ++round) one_round(&times_ms);
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const TimingSummary summary = summarize(slowest(*communicator, times_ms[i]));
      if (prints) print(options, contenders[i], communicator->size(), floats, summary, limit_gb_s);
    }
  }
}

}  // namespace dcs3gd::app
