#include "nn/operation.h"

namespace dcs3gd::nn {
namespace {

std::vector<Tensor*> tensors_of(const std::vector<PrimitiveOperation::Argument>& arguments) {
  std::vector<Tensor*> tensors;
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

void PrimitiveOperation::bind(void* scratchpad) {
  for (const auto& [index, tensor] : arguments_) {
    void* address = tensor->address();
    dnnl::memory memory(tensor->desc(), device_.engine, address);
    execution_arguments_.emplace(index, memory);
    bound_.push_back({tensor, memory, address});
  }
  if (planned_.scratchpad_bytes > 0) {
    const onednn::Descriptor bytes({static_cast<dnnl::memory::dim>(planned_.scratchpad_bytes)},
                                   dnnl::memory::data_type::u8, dnnl::memory::format_tag::a);
    execution_arguments_.emplace(DNNL_ARG_SCRATCHPAD, dnnl::memory(bytes, device_.engine, scratchpad));
  }
}

void PrimitiveOperation::run(const ImageRange& images) {
  for (BoundArgument& argument : bound_) {
    void* address = argument.tensor->address(images);
    if (address == argument.address) continue;
    argument.memory.set_data_handle(address);
    argument.address = address;
  }
  planned_.primitive.execute(device_.stream, execution_arguments_);
}

}  // namespace dcs3gd::nn
