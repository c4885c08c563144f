#pragma once

#include <memory>
#include <span>
#include <string>

#include "comm/all_reduce.h"
#include "comm/operation.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// `comm.algorithm: mpi`: the world's own all-reduce of the values, then of the tail, then the factor. Slow but
/// trusted; its result need not have the same bits on all ranks.
class NativeAllReduce final : public Operation {
 public:
  /// The factor of the spec is set; its wire is not looked at.
  NativeAllReduce(Transport& transport, const AllReduceSpec& spec);

  void start(int tag) override;
  Step step() override;
  bool runs_alone() const override { return values_operation_->runs_alone(); }
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
