#include "nn/plan/operation.h"

#include <algorithm>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn {
namespace {

std::vector<Tensor*> tensors_of(const std::vector<PrimitiveOperation::Argument>& arguments) {
  std::vector<Tensor*> tensors;
  tensors.reserve(arguments.size());
  for (const auto& argument : arguments) tensors.push_back(argument.tensor);
  return tensors;
}

}  // namespace

PrimitiveOperation::PrimitiveOperation(std::string name, std::string kind, const onednn::Device& device,
                                       onednn::Planned planned, std::vector<Argument> arguments)
    : Operation(std::move(name), std::move(kind), tensors_of(arguments)),
      device_(device),
      planned_(std::move(planned)),
      arguments_(std::move(arguments)) {}

void PrimitiveOperation::bind() {
  for (const auto& [index, tensor, desc] : arguments_) {
    void* address = tensor->address();
    bound_.push_back({tensor, dnnl::memory(desc, device_.engine, address), address});
    execution_arguments_.push_back({index, bound_.back().memory.get()});
  }
}

void PrimitiveOperation::run(const ImageRange& images) {
  if (planned_.own_kernel) {
    planned_.own_kernel([&](int index) {
      const auto argument = std::ranges::find(arguments_, index, &Argument::index);
      return argument == arguments_.end() ? nullptr : argument->tensor->address(images);
    });
    return;
  }
  for (BoundArgument& argument : bound_) {
    void* address = argument.tensor->address(images);
    if (address == argument.address) continue;
    argument.memory.set_data_handle(address);
    argument.address = address;
  }
  const dnnl_status_t status =
      dnnl_primitive_execute(planned_.primitive.get(), device_.stream.get(),
                             static_cast<int>(execution_arguments_.size()), execution_arguments_.data());
  if (status != dnnl_success) {
    throw Error(ErrorKind::failure, format("{}: oneDNN failed with status {}", name(), static_cast<int>(status)));
  }
}

}  // namespace dcs3gd::nn
