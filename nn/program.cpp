#include "nn/program.h"

#include <algorithm>
#include <map>

#include "core/stopwatch.h"
#include "nn/graph/trained_values.h"
#include "nn/kernels/elementwise.h"
#include "nn/layers/layer.h"
#include "nn/plan/fusion.h"
#include "nn/plan/memory_plan.h"

namespace dcs3gd::nn {
namespace {

std::size_t index_of(ValueId value) { return static_cast<std::size_t>(value); }

/// Adds a part to the gradient of a value that several layers read. A layer with adds_gradients() receives two parts
/// unadded; else they are summed here, in place where a part may be overwritten.
Flow accumulate(Planner& planner, Flow sum, const Flow& part, bool layer_adds) {
  if (sum.tensor == nullptr) return part;
  if (layer_adds && sum.unadded == nullptr) {
    return sum.may_overwrite || !part.may_overwrite ? Flow{sum.tensor, sum.may_overwrite, part.tensor}
                                                    : Flow{part.tensor, true, sum.tensor};
  }
  Tensor* dst = sum.may_overwrite    ? sum.tensor
                : part.may_overwrite ? part.tensor
                                     : planner.activation("gradient sum", sum.tensor->desc());
  planner
      .append(dst->name() + " sum", "addition", {sum.tensor, part.tensor, dst},
              [src0 = sum.tensor, src1 = part.tensor, dst](const ImageRange& images) {
                add_forward(src0->precision(), src0->address(images), src1->address(images), dst->address(images),
                            dst->stored_elements(images));
              })
      .take_any_images();
  return {dst, true, sum.unadded};
}

}  // namespace

struct Program::PlannedLayer {
  Node node;
  std::unique_ptr<Layer> layer;
};

Program::Program(Planner planner) : range_images_(planner.range_images()) {
  std::vector<PlannedLayer> layers;
  for (const Node& node : fused_nodes(planner.surroundings().graph)) layers.push_back({node, nullptr});
  plan_forward(planner, layers);
  if (planner.training()) plan_backward(planner, layers);
  gradients_ = planner.gradient_tensors();
  tensors_ = planner.take_tensors();
  operations_ = planner.take_operations();
  seconds_.resize(operations_.size());
  plan_stages();
  plan_memory();
}

void Program::plan_forward(Planner& planner, std::vector<PlannedLayer>& layers) {
  const Graph& graph = planner.surroundings().graph;
  const std::vector<int> readers = graph.reader_counts();
  std::vector<Flow> values(graph.value_count());
  input_ = planner.batch_activation("input", onednn::plain(image_dims(range_images_, graph.shape(graph.input()))),
                                    Tensor::Memory::external);
  values[index_of(graph.input())] = {input_, false};
  for (auto& [node, layer] : layers) {
    std::vector<Flow> src;
    for (const ValueId id : node.src) {
      const Flow& value = values[index_of(id)];
      src.push_back({value.tensor, value.may_overwrite && readers[index_of(id)] == 1});
    }
    if (planner.training()) {
      for (const std::size_t parameter : node.parameters) planner.append_weights_needed(parameter);
    }
    layer = node.kind->make_layer(node, graph.shape(node.src[0]));
    values[index_of(node.dst)] = layer->plan_forward(planner, src);
  }
  Tensor* output = values[index_of(graph.output())].tensor;
  output_format_ = output->desc();
  const onednn::Descriptor plain = onednn::plain(onednn::dims_of(output_format_));
  const bool is_kept = output->memory() == Tensor::Memory::planned && output->extent() == Tensor::Extent::batch;
  if (is_kept && output_format_ == plain) {
    logits_ = output;
  } else {
    logits_ = planner.batch_activation("logits", plain, Tensor::Memory::planned);
    planner.append_reorder(output, logits_);
  }
  diff_logits_ = plan_loss(planner, logits_);
}

void Program::plan_backward(Planner& planner, std::vector<PlannedLayer>& layers) {
  const Graph& graph = planner.surroundings().graph;

  const std::vector<bool> needs_gradient = trained_values(graph);
  const auto needed = [&](ValueId value) { return needs_gradient[index_of(value)]; };
  std::vector<bool> layer_adds(graph.value_count());
  for (const auto& [node, layer] : layers) layer_adds[index_of(node.dst)] = layer->adds_gradients();

  std::vector<Flow> gradients(graph.value_count());
  gradients.back() = {planner.in_format(diff_logits_, output_format_)};
  for (std::size_t index = layers.size(); index-- > 0;) {
    const auto& [node, layer] = layers[index];
    if (!needed(node.dst)) continue;
    const std::vector<Flow> diff_src =
        layer->plan_backward(planner, gradients[index_of(node.dst)], std::ranges::any_of(node.src, needed));
    for (std::size_t i = 0; i < node.src.size(); ++i) {
      if (!needed(node.src[i])) continue;
      const std::size_t value = index_of(node.src[i]);
      gradients[value] = accumulate(planner, gradients[value], diff_src[i], layer_adds[value]);
    }
  }
}

void Program::plan_stages() {
  for (std::size_t index = 0; index < operations_.size(); ++index) {
    const int images = operations_[index]->images();
    const bool is_whole = images == range_images_;
    const bool continues = !stages_.empty() && !is_whole && stages_.back().images != range_images_ &&
                           (images == 0 || stages_.back().images == 0 || images == stages_.back().images);
    if (!continues) stages_.push_back({.images = 0, .first = index, .end = index});
    stages_.back().images = std::max(stages_.back().images, images);
    stages_.back().end = index + 1;
  }
  for (Stage& stage : stages_) {
    if (stage.images == 0) stage.images = range_images_;
  }
}

void Program::plan_memory() {
  struct Use {
    Tensor* tensor;
    std::size_t first, last;  ///< operations
    const Stage* first_stage;
    const Stage* last_stage;
  };
  // In the order of their first use: the same plan in every process.
  std::map<const Tensor*, std::size_t> places;
  std::vector<Use> uses;
  for (const Stage& stage : stages_) {
    for (std::size_t index = stage.first; index < stage.end; ++index) {
      for (Tensor* tensor : operations_[index]->tensors()) {
        if (tensor->memory() == Tensor::Memory::external) continue;
        const auto [entry, is_new] = places.try_emplace(tensor, uses.size());
        if (is_new) uses.push_back({tensor, index, index, &stage, &stage});
        uses[entry->second].last = index;
        uses[entry->second].last_stage = &stage;
      }
    }
  }
  std::vector<Lifetime> lifetimes;
  lifetimes.reserve(uses.size());
  placed_.reserve(uses.size());
  for (const Use& use : uses) {
    if (use.first_stage == use.last_stage && use.tensor->extent() == Tensor::Extent::batch && use.tensor != logits_) {
      use.tensor->hold_one_range(use.first_stage->images);
    }
    // A stage of several ranges begins again with each; but what a single operation uses is its scratch memory.
    const auto begins_again = [&](const Stage& stage) {
      return use.first != use.last && stage.images != range_images_;
    };
    placed_.push_back(use.tensor);
    lifetimes.push_back({.bytes = use.tensor->size_bytes(),
                         .first = begins_again(*use.first_stage) ? use.first_stage->first : use.first,
                         .last = begins_again(*use.last_stage) ? use.last_stage->end - 1 : use.last});
  }
  // The logits are read after the pass. Where the ranges of a batch pass through the whole program one after the other,
  // they must not share memory with what the next range writes either.
  lifetimes[places.at(logits_)] = {.bytes = logits_->size_bytes(), .first = 0, .last = operations_.size()};
  MemoryPlan plan = nn::plan_memory(lifetimes);
  offsets_ = std::move(plan.offsets);
  memory_plan_bytes_ = plan.total_bytes;
}

void Program::bind(std::byte* memory) {
  for (std::size_t i = 0; i < placed_.size(); ++i) placed_[i]->place(memory + offsets_[i]);
  for (const auto& operation : operations_) operation->bind();
}

void Program::run(int images) {
  Stopwatch watch;
  for (int first = 0; first < images; first += range_images_) {
    for (const Stage& stage : stages_) {
      for (int offset = 0; offset < range_images_; offset += stage.images) {
        for (std::size_t index = stage.first; index < stage.end; ++index) {
          if (!operations_[index]->runs_for(offset == 0, offset + stage.images == range_images_)) continue;
          operations_[index]->run({first + offset, stage.images});
          seconds_[index] += watch.restart_s();
        }
      }
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

ConvolutionCount Program::convolutions() const {
  ConvolutionCount count;
  for (const auto& operation : operations_) {
    if (operation->kind() != "convolution") continue;
    ++count.all;
    if (operation->implementation().find("wino") != std::string::npos) ++count.winograd;
  }
  return count;
}

void Program::reset_times() { std::ranges::fill(seconds_, 0.0); }

}  // namespace dcs3gd::nn
