#include "comm/native_all_reduce.h"

#include "comm/wire_format.h"

namespace dcs3gd::comm {

void NativeAllReduce::start(int tag) {
  tag_ = tag;
  values_done_ = false;
  values_operation_->start(tag);
}

Step NativeAllReduce::step() {
  if (values_done_) return tail_operation_->step();
  const Step step = values_operation_->step();
  if (step != Step::done) return step;
  values_done_ = true;
  scale(factor_, values_.data(), values_.size());
  tail_operation_->start(tag_);
  return Step::moved;
}

}  // namespace dcs3gd::comm
