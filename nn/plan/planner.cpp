#include "nn/plan/planner.h"

#include <algorithm>

#include <omp.h>

#include "core/error.h"
#include "core/format.h"
#include "nn/plan/reorder.h"

namespace dcs3gd::nn {

int evaluation_range(int batch) {
  constexpr int kLargest = 16;
  for (int range = std::min(batch, kLargest); range > 1; --range) {
    if (batch % range == 0) return range;
  }
  return 1;
}

int training_range(int batch, const ConvolutionCase& convolution) {
  // Measured (README.md). Larger ranges leave the caches; for smaller ones weights are read too often.
  constexpr std::size_t kBytesPerThread = std::size_t{4} << 20;
  constexpr std::size_t kWeightsPerRange = 4;
  const Convolution& options = convolution.options;
  if (options.bias) return batch;  // as a rule no batch norm follows; and its gradients would have to be added up
  const ImageShape dst =
      shape_of_windows("", convolution.src, options.oc, options.kernel, options.stride, options.padding);
  const auto bytes = [&](std::int64_t elements) {
    return static_cast<std::size_t>(elements) * element_bytes(convolution.precision);
  };
  const std::size_t bytes_per_image = bytes(convolution.src.element_count() + dst.element_count());
  const std::size_t weights =
      bytes(std::int64_t{options.oc} * convolution.src.channels * options.kernel * options.kernel);
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  const int most = static_cast<int>(threads * kBytesPerThread / bytes_per_image);
  int range = std::clamp(most, 1, batch);
  while (batch % range != 0) --range;
  const bool is_too_small =
      2 * range <= most || static_cast<std::size_t>(range) * bytes_per_image < kWeightsPerRange * weights;
  return is_too_small ? batch : range;
}

Tensor* Planner::add(std::string name, const onednn::Descriptor& desc, Tensor::Memory memory, Tensor::Extent extent) {
  tensors_.push_back(std::make_unique<Tensor>(std::move(name), desc, memory, extent, surroundings_.options.batch));
  return tensors_.back().get();
}

Tensor* Planner::activation(std::string name, const onednn::Descriptor& desc) {
  return add(std::move(name), desc, Tensor::Memory::planned,
             runs_in_parts() ? Tensor::Extent::range : Tensor::Extent::batch);
}

Tensor* Planner::in_place_or_new(Tensor* src, bool may_overwrite, std::string name) {
  if (!may_overwrite) return activation(std::move(name), src->desc());
  recipes_.erase(src);  // what it holds from now on is another value
  return src;
}

Tensor* Planner::batch_activation(std::string name, const onednn::Descriptor& desc, Tensor::Memory memory) {
  return add(std::move(name), desc, memory, Tensor::Extent::batch);
}

Tensor* Planner::temporary(std::string name, const onednn::Descriptor& desc) {
  return add(std::move(name), desc, Tensor::Memory::planned, Tensor::Extent::none);
}

Tensor* Planner::weights(std::size_t parameter, const onednn::Descriptor& plain, const onednn::Descriptor& desc) {
  return surroundings_.weights.in_format(parameter, plain, desc);
}

bool Planner::has_frozen_statistics(const Node& node) const {
  return surroundings_.running_statistics.layout().slices()[node.statistics[0]].is_frozen;
}

Tensor* Planner::gradient(std::size_t parameter, const onednn::Descriptor& plain) {
  if (surroundings_.parameters.slices()[parameter].is_frozen) return temporary("unused gradient", plain);
  gradient_tensors_.resize(surroundings_.parameters.slices().size());
  Tensor*& tensor = gradient_tensors_[parameter];
  if (tensor == nullptr) tensor = add("gradient", plain, Tensor::Memory::external, Tensor::Extent::none);
  return tensor;
}

Tensor* Planner::running_statistic(std::size_t statistic) {
  const ParameterSlice& slice = surroundings_.running_statistics.layout().slices()[statistic];
  Tensor* tensor = add(slice.name, onednn::plain({static_cast<std::int64_t>(slice.count)}), Tensor::Memory::external,
                       Tensor::Extent::none);
  tensor->place(surroundings_.running_statistics.slice(slice).data());
  return tensor;
}

Operation& Planner::append(std::unique_ptr<Operation> operation) {
  operation->take(range_images());
  operations_.push_back(std::move(operation));
  return *operations_.back();
}

Operation& Planner::append(std::string name, std::string kind, onednn::Planned planned,
                           std::vector<PrimitiveOperation::Argument> arguments) {
  if (planned.scratchpad.get_size() > 0) {
    arguments.push_back({DNNL_ARG_SCRATCHPAD, temporary(name + " scratchpad", planned.scratchpad)});
  }
  return append(std::make_unique<PrimitiveOperation>(std::move(name), std::move(kind), device(), std::move(planned),
                                                     std::move(arguments)));
}

Operation& Planner::append(std::string name, std::string kind, std::vector<Tensor*> tensors,
                           KernelOperation::Kernel kernel) {
  return append(
      std::make_unique<KernelOperation>(std::move(name), std::move(kind), std::move(tensors), std::move(kernel)));
}

Tensor* Planner::in_format(Tensor* src, const onednn::Descriptor& desc) {
  if (src->desc() == desc) return src;
  Tensor* dst = activation(src->name() + " reordered", desc);
  append_reorder(src, dst);
  return dst;
}

Operation& Planner::append_reorder(Tensor* src, Tensor* dst) {
  const std::string name = src->name() + " reorder";
  if (auto kernel = own_reorder(src, dst)) return append(name, "reorder", {src, dst}, std::move(kernel));
  return append(name, "reorder", onednn::reorder(device(), src->desc(), dst->desc()),
                {{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}});
}

void Planner::allow_recomputation(Tensor* value, Recompute recompute, const std::vector<Tensor*>& from) {
  // Where memory peaks depends on Winograd's scratch memory too: for ResNet-50 (chains of at most 7) it is best to keep
  // no sum, in deeper networks one of about seven.
  constexpr int kLongestChain = 7;
  int length = 1;
  for (Tensor* source : from) {
    const auto entry = recipes_.find(source);
    if (entry != recipes_.end()) length = std::max(length, entry->second.length + 1);
  }
  if (length <= kLongestChain) recipes_[value] = {std::move(recompute), length};
}

Tensor* Planner::kept_or_recomputed(Tensor* value) {
  const auto recipe = recipes_.find(value);
  if (recipe == recipes_.end()) return value;
  if (const auto entry = recomputed_.find(value); entry != recomputed_.end()) return entry->second;
  Tensor* again = activation(value->name() + " again", value->desc());
  recipe->second.recompute(*this, again);
  recomputed_[value] = again;
  return again;
}

void Planner::append_weights_needed(std::size_t parameter) {
  const ParameterSlice* slice = trained_slice(parameter);
  if (slice == nullptr) return;
  append(slice->name + " needed", "weights needed", {}, [&context = surroundings_.context, slice](const ImageRange&) {
    if (context.hooks->on_weights_needed) context.hooks->on_weights_needed(*slice);
  }).run_once(Operation::Once::with_first_range);
}

void Planner::append_gradient_ready(std::size_t parameter) {
  const ParameterSlice* slice = trained_slice(parameter);
  if (slice == nullptr) return;
  append(slice->name + " gradient ready", "gradient ready", {},
         [&context = surroundings_.context, slice](const ImageRange&) {
           if (context.hooks->on_gradient_ready) context.hooks->on_gradient_ready(*slice);
         })
      .run_once(Operation::Once::with_last_range);
}

const ParameterSlice* Planner::trained_slice(std::size_t parameter) const {
  return surroundings_.trained.find(surroundings_.parameters.slices()[parameter].name);
}

void Planner::require_whole_batch(const std::string& name) const {
  if (runs_in_parts()) {
    throw Error(ErrorKind::failure, format("plan: {} needs all {} images at once but was planned for ranges of {}",
                                           name, surroundings_.options.batch, range_images()));
  }
}

}  // namespace dcs3gd::nn
