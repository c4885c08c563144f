#include "comm/reference_all_reduce.h"

#include "comm/wire_format.h"

namespace dcs3gd::comm {

ReferenceAllReduce::ReferenceAllReduce(Transport& transport, std::span<float> values, std::span<float> extras,
                                       float factor, int tag)
    : values_(values),
      factor_(factor),
      values_operation_(transport.make_library_all_reduce(LibraryCall::in_place, values, values, tag)),
      extras_operation_(transport.make_library_all_reduce(LibraryCall::in_place, extras, extras, tag)) {}

void ReferenceAllReduce::start() { values_operation_->start(); }

Step ReferenceAllReduce::step() {
  if (values_done_) return extras_operation_->step();
  const Step step = values_operation_->step();
  if (step != Step::done) return step;
  values_done_ = true;
  scale(factor_, values_.data(), values_.size());
  extras_operation_->start();
  return Step::moved;
}

}  // namespace dcs3gd::comm
