#include "nn/program.h"

#include <algorithm>
#include <map>

#include "core/stopwatch.h"
#include "nn/elementwise.h"
#include "nn/layers/layer.h"
#include "nn/memory_plan.h"

namespace dcs3gd::nn {
namespace {

/// Sums the gradients of a value that several layers read. Only an exclusive tensor may be written: an addition's
/// gradient is still to be read by the other branch.
Gradient accumulate(Planner& planner, Gradient sum, Gradient part) {
  if (sum.tensor == nullptr) return part;
  Tensor* dst = sum.exclusive    ? sum.tensor
                : part.exclusive ? part.tensor
                                 : planner.activation("gradient sum", sum.tensor->desc());
  planner.append(dst->name() + " sum", "addition", {sum.tensor, part.tensor, dst},
                 [src0 = sum.tensor, src1 = part.tensor, dst](const ImageRange& images) {
                   add_forward(src0->values(images), src1->values(images), dst->values(images),
                               dst->stored_elements_per_image() * static_cast<std::size_t>(images.count));
                 });
  return {dst, true};
}

}  // namespace

Program::Program(Planner planner) : range_images_(planner.range_images()) {
  std::vector<std::unique_ptr<Layer>> layers;
  plan_forward(planner, layers);
  if (planner.training()) plan_backward(planner, layers);
  gradients_ = planner.gradient_tensors();
  tensors_ = planner.take_tensors();
  operations_ = planner.take_operations();
  seconds_.resize(operations_.size());
  plan_memory();
}

void Program::plan_forward(Planner& planner, std::vector<std::unique_ptr<Layer>>& layers) {
  const Graph& graph = planner.surroundings().graph;
  std::vector<Tensor*> values(graph.value_count());
  input_ = planner.batch_activation("input",
                                    onednn::plain(onednn::image_dims(range_images_, graph.shape(graph.input()))),
                                    Tensor::Memory::external);
  values[static_cast<std::size_t>(graph.input())] = input_;
  for (const Node& node : graph.nodes()) {
    std::vector<Tensor*> src;
    for (const ValueId value : node.src) src.push_back(values[static_cast<std::size_t>(value)]);
    layers.push_back(make_layer(node, graph.shape(node.src[0])));
    values[static_cast<std::size_t>(node.dst)] = layers.back()->plan_forward(planner, src);
  }
  Tensor* output = values[static_cast<std::size_t>(graph.output())];
  const onednn::Descriptor plain = onednn::plain(output->desc().dims());
  if (output->extent() == Tensor::Extent::batch && output->desc() == plain) {
    logits_ = output;
  } else {
    logits_ = planner.batch_activation("logits", plain, Tensor::Memory::planned);
    planner.append_reorder(output, logits_);
  }
  diff_logits_ = plan_loss(planner, logits_);
}

void Program::plan_backward(Planner& planner, std::vector<std::unique_ptr<Layer>>& layers) {
  const Graph& graph = planner.surroundings().graph;
  const std::vector<Node>& nodes = graph.nodes();

  // A gradient is needed where some layer further up has parameters.
  std::vector<bool> needs_gradient(graph.value_count());
  for (const Node& node : nodes) {
    const bool inherited = std::ranges::any_of(
        node.src, [&](ValueId value) { return needs_gradient[static_cast<std::size_t>(value)]; });
    needs_gradient[static_cast<std::size_t>(node.dst)] = inherited || !node.parameters.empty();
  }

  std::vector<Gradient> gradients(graph.value_count());
  gradients.back() = {diff_logits_};
  for (std::size_t index = nodes.size(); index-- > 0;) {
    const Node& node = nodes[index];
    const auto dst = static_cast<std::size_t>(node.dst);
    if (!needs_gradient[dst]) continue;
    const auto needed = [&](ValueId value) { return needs_gradient[static_cast<std::size_t>(value)]; };
    const std::vector<Gradient> diff_src =
        layers[index]->plan_backward(planner, gradients[dst], std::ranges::any_of(node.src, needed));
    for (std::size_t i = 0; i < node.src.size(); ++i) {
      if (!needed(node.src[i])) continue;
      Gradient& sum = gradients[static_cast<std::size_t>(node.src[i])];
      sum = accumulate(planner, sum, diff_src[i]);
    }
  }
}

void Program::plan_memory() {
  std::map<Tensor*, Lifetime> lifetimes;
  for (std::size_t index = 0; index < operations_.size(); ++index) {
    for (Tensor* tensor : operations_[index]->tensors()) {
      if (tensor->memory() == Tensor::Memory::external) continue;
      const auto [entry, is_new] = lifetimes.try_emplace(tensor, Lifetime{tensor->size_bytes(), index, index});
      entry->second.last = index;
    }
  }
  // The ranges of a batch pass through the whole program one after the other: what holds the results of all of them
  // must not share memory with what the next range writes.
  const bool in_parts = std::ranges::any_of(
      lifetimes, [](const auto& entry) { return entry.first->extent() == Tensor::Extent::range; });
  std::vector<Lifetime> list;
  for (auto& [tensor, lifetime] : lifetimes) {
    if (in_parts && tensor->extent() == Tensor::Extent::batch) lifetime = {lifetime.bytes, 0, operations_.size()};
    placed_.push_back(tensor);
    list.push_back(lifetime);
  }
  MemoryPlan plan = nn::plan_memory(list);
  offsets_ = std::move(plan.offsets);
  memory_plan_bytes_ = plan.total_bytes;
}

std::size_t Program::scratchpad_bytes() const {
  std::size_t bytes = 0;
  for (const auto& operation : operations_) bytes = std::max(bytes, operation->scratchpad_bytes());
  return bytes;
}

void Program::bind(std::byte* memory, std::byte* scratchpad) {
  for (std::size_t i = 0; i < placed_.size(); ++i) placed_[i]->place(memory + offsets_[i]);
  for (const auto& operation : operations_) operation->bind(scratchpad);
}

void Program::run(int images) {
  for (int first = 0; first < images; first += range_images_) {
    const ImageRange range{first, range_images_};
    Stopwatch watch;
    for (std::size_t index = 0; index < operations_.size(); ++index) {
      operations_[index]->run(range);
      seconds_[index] += watch.restart_s();
    }
  }
}

void Program::add_times(std::vector<KindTime>& times) const {
  for (std::size_t index = 0; index < operations_.size(); ++index) {
    const std::string& kind = operations_[index]->kind();
    auto entry = std::ranges::find(times, kind, &KindTime::kind);
    if (entry == times.end()) entry = times.insert(times.end(), KindTime{kind, 0});
    entry->seconds += seconds_[index];
  }
}

void Program::reset_times() { std::ranges::fill(seconds_, 0.0); }

}  // namespace dcs3gd::nn
