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
  task_.start([this, top1 = top1_, write = std::move(write)] {
    file_ = write();
    written_top1_ = top1;
  });
}

void BestModel::wait() {
  const auto error = task_.wait();
  if (!error) return;
  log::warn(format("{}; training goes on", error->what()));
  top1_ = written_top1_;
}

void BestModel::wait(comm::Communicator& communicator) {
  all_done(communicator, task_, "best.safetensors");
  wait();
}

}  // namespace dcs3gd::app
