#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/record/metrics.h"

namespace dcs3gd::app {

/// The numbers of an event under the names that experiment trackers show: train/loss, train/learning_rate,
/// speed/images_per_s, … of a step; eval/top1, … of an evaluation; eval/best_top1 of the end. What is null in
/// metrics.jsonl is left out.
struct Scalars {
  std::optional<std::int64_t> step;  ///< none: that of the event before
  std::vector<std::pair<std::string, double>> values;
};
Scalars scalars_of(const Event& event);

}  // namespace dcs3gd::app
