#include "app/record/scalars.h"

#include <cmath>

namespace dcs3gd::app {
namespace {

Scalars all_of(const StartEvent& /*event*/) { return {}; }
Scalars all_of(const CheckpointEvent& /*event*/) { return {}; }

Scalars all_of(const StepEvent& event) {
  return {.step = event.step,
          .values = {{"train/loss", event.loss},
                     {"train/learning_rate", event.lr},
                     {"train/grad_norm", event.grad_norm},
                     {"train/lambda", event.lambda},
                     {"train/distance_norm", event.distance_norm},
                     {"train/staleness_price", event.staleness_price},
                     {"train/staleness_sharpness", event.staleness_sharpness},
                     {"speed/images_per_s", event.images_per_s},
                     {"speed/step_ms", event.step_ms},
                     {"speed/compute_ms", event.compute_ms},
                     {"speed/all_reduce_ms", event.all_reduce_ms},
                     {"speed/wait_ms", event.wait_ms},
                     {"speed/data_wait_ms", event.data_wait_ms},
                     {"speed/bad_images", static_cast<double>(event.bad_images)},
                     {"speed/overlap", event.overlap}}};
}

Scalars all_of(const EvalEvent& event) {
  return {.step = event.step,
          .values = {{"eval/top1", event.top1}, {"eval/top5", event.top5}, {"eval/loss", event.loss}}};
}

Scalars all_of(const EndEvent& event) {
  return {.step = {}, .values = {{"eval/best_top1", event.best_top1.value_or(NAN)}}};
}

}  // namespace

Scalars scalars_of(const Event& event) {
  Scalars scalars = std::visit([](const auto& e) { return all_of(e); }, event);
  std::erase_if(scalars.values, [](const auto& scalar) { return !std::isfinite(scalar.second); });
  return scalars;
}

}  // namespace dcs3gd::app
