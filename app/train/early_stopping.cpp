#include "app/train/early_stopping.h"

#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr const char* kBest = "early_stopping_best";
constexpr const char* kWithoutGain = "early_stopping_without_gain";

}  // namespace

EarlyStopping::EarlyStopping(const EarlyStoppingConfiguration& options, const std::map<std::string, double>& saved)
    : options_(options) {
  if (const auto best = saved.find(kBest); best != saved.end()) best_ = best->second;
  if (const auto count = saved.find(kWithoutGain); count != saved.end()) {
    without_gain_ = static_cast<std::int64_t>(count->second);
  }
}

void EarlyStopping::note(double top1) {
  const bool is_gain = !best_ || top1 > *best_ + options_.min_delta;
  without_gain_ = is_gain ? 0 : without_gain_ + 1;
  if (is_gain) best_ = top1;
}

std::string EarlyStopping::why() const {
  return format("early stopping: {} in a row {} not been above {:.2f} %", counted(without_gain_, "evaluation"),
                without_gain_ == 1 ? "has" : "have", 100 * (best_.value_or(0) + options_.min_delta));
}

void EarlyStopping::save(std::map<std::string, double>& numbers) const {
  if (best_) numbers[kBest] = *best_;
  numbers[kWithoutGain] = static_cast<double>(without_gain_);
}

}  // namespace dcs3gd::app
