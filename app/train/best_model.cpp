#include "app/train/best_model.h"

#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {

bool BestModel::is_improved_by(double top1) {
  if (top1_ && top1 <= *top1_) return false;
  top1_ = top1;
  return true;
}

void BestModel::wait() {
  if (const auto error = task_.wait()) log::warn(format("{}; training goes on", error->what()));
}

}  // namespace dcs3gd::app
