#include "app/rules/local_workers.h"

#include <cmath>

#include "core/format.h"
#include "core/log.h"
#include "core/vector_math.h"

namespace dcs3gd::app {

LocalWorkers::LocalWorkers(const RuleParts& parts, const AlgorithmOptions& options) : parts_(parts), options_(options) {
  if (local_worker_arrays(options) > 0) part_gradient_.emplace(parts.network.parameter_layout());
}

double LocalWorkers::compute_gradient(std::int64_t step, int k, const BatchSource& next_batch, ParameterArena& gradient,
                                      const nn::PassHooks& hooks) {
  const nn::BatchView batch = next_batch();
  const int parts = options_.micro_batches;
  nn::BatchResult result;
  for (int part = 0; part < parts; ++part) {
    const auto slice_ready = [&](const ParameterSlice& slice) {
      if (part > 0) add(part_gradient_->slice(slice), gradient.slice(slice));
      if (part + 1 < parts) return;
      if (parts > 1) scale(1.0F / static_cast<float>(parts), gradient.slice(slice));
      hooks.on_gradient_ready(slice);
    };
    result += parts_.network.compute_gradient(
        parts_.network.part_of(batch, part), {step, number(k), part}, part == 0 ? gradient : *part_gradient_,
        {.on_weights_needed = hooks.on_weights_needed, .on_gradient_ready = slice_ready});
    parts_.running_statistics.add(parts_.network.batch_statistics());
  }
  return result.loss_sum / static_cast<double>(result.images);
}

double LocalWorkers::clip_factor(double squared_norm) const {
  const std::optional<double> limit = options_.gradient_clip_norm;
  return limit && squared_norm > *limit * *limit ? *limit / std::sqrt(squared_norm) : 1;
}

void LocalWorkers::report_non_finite(std::int64_t step, int k) const {
  log::error(format("worker {} (rank {} on {}): the gradient of step {} holds a number that is not finite", number(k),
                    parts_.communicator.rank(), parts_.communicator.host(), step + 1));
}

std::size_t local_worker_arrays(const AlgorithmOptions& options) { return options.micro_batches > 1 ? 1 : 0; }

}  // namespace dcs3gd::app
