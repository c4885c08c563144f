#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "core/format.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/worker_update.h"
#include "core/parallel_blocks.h"
#include "core/parameter_arena.h"
#include "core/random_stream.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

/// Arrays read or written once per pass: the norms read g, ū and u; the step reads and writes m, u and ū, reads g and
/// writes the local weights.
constexpr std::size_t kArraysOfNorms = 3;
constexpr std::size_t kArraysOfStep = 8;
constexpr std::size_t kArraysOfTriad = 3;

void triad(const float* b, const float* c, float* a, std::size_t count) {
  constexpr float kScale = 3;
  for_each_block(count, [&](std::size_t first, std::size_t n) {
    for (std::size_t i = first; i < first + n; ++i) a[i] = b[i] + kScale * c[i];
  });
}

}  // namespace

void bench_update(const UpdateBenchOptions& options) {
  const auto layout = std::make_shared<const ParameterLayout>(std::vector<ParameterSlice>{
      {.name = "weights", .shape = {static_cast<std::int64_t>(options.floats)}, .kind = ParameterKind::weight}});
  ParameterArena gradient(layout), update(layout), mean_weights(layout), ring(layout), local(layout);
  std::uint64_t id = 0;
  for (ParameterArena* arena : {&gradient, &update, &ring, &mean_weights}) {
    RandomStream random(1, RandomPurpose::test, id++);
    for (float& value : arena->values()) value = random.uniform(-1, 1);
  }

  const optim::MomentumSgdOptions sgd;
  const optim::UpdateFormula formula = optim::update_formula(layout->slices()[0], sgd, sgd.momentum, 1e-3, 1e-3);
  std::vector<double> update_ms;
  std::vector<double> triad_ms;
  for (int repetition = 0; repetition < options.repetitions; ++repetition) {
    Stopwatch watch;
    const optim::CompensationNorms norms = optim::compensation_norms(gradient.values(), ring.values(), update.values());
    const optim::Correction correction{.lambda = static_cast<float>(optim::compensation_lambda(norms, {.workers = 2})),
                                       .bound = std::numeric_limits<float>::infinity()};
    const optim::WorkerArrays worker{gradient.values().data(), update.values().data(), correction};
    optim::form_updates(formula, {&worker, 1}, false, mean_weights.values().data(), ring.values().data(),
                        ring.values().data(), local.values().data(), options.floats);
    update_ms.push_back(watch.elapsed_ms());
    watch.restart_s();
    triad(gradient.values().data(), update.values().data(), local.values().data(), options.floats);
    triad_ms.push_back(watch.elapsed_ms());
  }

  const TimingSummary measured = summarize(update_ms);
  const TimingSummary triads = summarize(triad_ms);
  const double bound_ms = triads.median * (kArraysOfNorms + kArraysOfStep) / kArraysOfTriad;
  if (options.json) {
    const nlohmann::ordered_json line = {
        {"bench", "update"}, {"floats", options.floats}, {"median_ms", measured.median}, {"bound_ms", bound_ms},
        {"n", measured.n},   {"min_ms", measured.min},   {"p99_ms", measured.p99}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  const double triad_gb_s = static_cast<double>(kArraysOfTriad * sizeof(float) * options.floats) / triads.median / 1e6;
  std::printf("update of %zu floats  %s\n", options.floats, format_ms(measured).c_str());
  std::printf("bound                 %.3f ms: %zu arrays at the triad's %.1f GB/s; measured / bound = %.2f\n", bound_ms,
              kArraysOfNorms + kArraysOfStep, triad_gb_s, measured.median / bound_ms);
}

}  // namespace dcs3gd::app
