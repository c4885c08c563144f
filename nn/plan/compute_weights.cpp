#include "nn/plan/compute_weights.h"

#include <utility>

#include "nn/plan/reorder.h"

namespace dcs3gd::nn {

ComputeWeights::ComputeWeights(const onednn::Device& device, std::size_t parameter_count)
    : device_(device), copies_(parameter_count) {}

Tensor* ComputeWeights::in_format(std::size_t parameter, const onednn::Descriptor& plain,
                                  const onednn::Descriptor& desc) {
  for (const Copy& copy : copies_[parameter]) {
    if (copy.tensor->desc() == desc) return copy.tensor.get();
  }
  Copy copy;
  copy.plain = std::make_unique<Tensor>("plain weights", plain, Tensor::Memory::external);
  copy.tensor = std::make_unique<Tensor>("weights", desc, Tensor::Memory::external);
  copy.memory = AlignedBuffer<std::byte>(copy.tensor->size_bytes());
  copy.tensor->place(copy.memory.data());
  if (auto kernel = own_reorder(copy.plain.get(), copy.tensor.get())) {
    copy.reorder = std::make_unique<KernelOperation>("weights", "reorder", std::vector<Tensor*>(), std::move(kernel));
  } else {
    plan_reorder(copy);
  }
  copies_[parameter].push_back(std::move(copy));
  return copies_[parameter].back().tensor.get();
}

void ComputeWeights::plan_reorder(Copy& copy) const {
  onednn::Planned planned = onednn::reorder(device_, copy.plain->desc(), copy.tensor->desc());
  copy.scratchpad = std::make_unique<Tensor>("scratchpad", planned.scratchpad, Tensor::Memory::external);
  copy.scratchpad_memory = AlignedBuffer<std::byte>(copy.scratchpad->size_bytes());
  copy.scratchpad->place(copy.scratchpad_memory.data());
  std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_FROM, copy.plain.get()},
                                                      {DNNL_ARG_TO, copy.tensor.get()}};
  if (copy.scratchpad->size_bytes() > 0) arguments.push_back({DNNL_ARG_SCRATCHPAD, copy.scratchpad.get()});
  copy.reorder =
      std::make_unique<PrimitiveOperation>("weights", "reorder", device_, std::move(planned), std::move(arguments));
  copy.reorder->bind();
}

void ComputeWeights::write(std::size_t parameter, const float* plain) {
  for (Copy& copy : copies_[parameter]) {
    // Tensors are written or read through one type of pointer; a reorder only reads its source.
    copy.plain->place(const_cast<float*>(plain));
    copy.reorder->run({});
  }
}

std::size_t ComputeWeights::size_bytes() const {
  std::size_t bytes = 0;
  for (const auto& copies : copies_) {
    for (const Copy& copy : copies) bytes += copy.memory.size();
  }
  return bytes;
}

}  // namespace dcs3gd::nn
