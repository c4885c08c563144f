#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "comm/all_reduce.h"
#include "comm/operation.h"
#include "comm/wire_format.h"

namespace dcs3gd::comm {

/// `comm.algorithm: mpi`: the world's own all-reduce of the values, then the factor, then the tail. Slow but trusted;
/// its result need not have the same bits on all ranks. A world without one has the ring instead.
class NativeAllReduce final : public Operation {
 public:
  /// Of the native all-reduces, in place. The factor of the spec is set; its wire is not looked at.
  NativeAllReduce(const AllReduceSpec& spec, std::unique_ptr<Operation> of_values, std::unique_ptr<Operation> of_tail)
      : values_(spec.values),
        factor_(*spec.factor),
        values_operation_(std::move(of_values)),
        tail_operation_(std::move(of_tail)) {}

  void start(int tag) override {
    tag_ = tag;
    values_done_ = false;
    values_operation_->start(tag);
  }
  Step step() override {
    if (values_done_) return tail_operation_->step();
    const Step step = values_operation_->step();
    if (step != Step::done) return step;
    values_done_ = true;
    scale(factor_, values_.data(), values_.size());
    tail_operation_->start(tag_);
    return Step::moved;
  }
  bool runs_alone() const override { return true; }
  const char* kind() const override { return "all-reduce"; }
  std::string name() const override { return values_operation_->name(); }
  std::string waits_for() const override { return values_operation_->waits_for(); }

 private:
  const std::span<float> values_;
  const float factor_;
  const std::unique_ptr<Operation> values_operation_;
  const std::unique_ptr<Operation> tail_operation_;
  int tag_ = 0;
  bool values_done_ = false;
};

}  // namespace dcs3gd::comm
