#include "app/train/best_model.h"

#include <utility>

#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {

bool BestModel::is_improved_by(double top1) {
  if (top1_ && top1 <= *top1_) return false;
  top1_ = top1;
  return true;
}

void BestModel::start_writing(std::function<FileDigest()> write) {
  file_.reset();
  task_.start([this, write = std::move(write)] { file_ = write(); });
}

void BestModel::wait() {
  if (const auto error = task_.wait()) log::warn(format("{}; training goes on", error->what()));
}

void BestModel::wait(comm::Communicator& communicator) {
  all_done(communicator, task_, "best.safetensors");
  wait();
}

}  // namespace dcs3gd::app
