#include "app/rules/step_sums.h"

#include <cmath>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {

void throw_if_diverged(std::int64_t step, const StepSums& sums, int workers, int ranks,
                       std::optional<double> loss_limit) {
  if (sums.non_finite_model > 0 && sums.non_finite_model < static_cast<float>(ranks)) {
    throw Error(
        ErrorKind::failure,
        format(
            "step {}: the mean model, of which every rank has the same copy, has become NaN or Inf on {} of {} ranks "
            "(the errors before this one name them). That is no divergence: something changed it there; test the "
            "memory and network of those hosts. The last checkpoint is as it was: continue from it",
            step + 1, sums.non_finite_model, ranks),
        ErrorScope::all_ranks);
  }
  if (sums.non_finite > 0 || !std::isfinite(sums.loss)) {
    throw Error(
        ErrorKind::diverged,
        format("step {}: training has diverged: the loss or gradient of a worker became NaN or Inf; the step was "
               "not applied. Lower optimizer.lr.base, lengthen optimizer.lr.warmup_epochs or set "
               "algorithm.gradient_clip_norm",
               step + 1),
        ErrorScope::all_ranks);
  }
  const double loss = sums.loss / static_cast<double>(workers);
  if (loss_limit && loss > *loss_limit) {
    throw Error(ErrorKind::diverged,
                format("step {}: training has diverged: the loss is {:.4g}, above run.loss_limit = {:.4g}", step + 1,
                       loss, *loss_limit),
                ErrorScope::all_ranks);
  }
}

void complete(StepReport& report, const StepSums& sums, int workers) {
  const double mean = 1.0 / workers;
  report.loss = mean * sums.loss;
  report.gradient_norm = mean * sums.gradient_norm;
  report.lambda = mean * sums.lambda;
  report.distance_norm = mean * sums.distance_norm;
  report.staleness_price = -0.5 * mean * sums.along;
  report.staleness_sharpness =
      sums.distance_squared > 0 ? -report.learning_rate * sums.along / sums.distance_squared : 0;
  report.tail = sums.tail;
}

}  // namespace dcs3gd::app
