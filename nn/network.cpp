#include "nn/network.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "nn/graph/layer_kinds.h"
#include "nn/onednn/cpu.h"
#include "nn/plan/compute_weights.h"
#include "nn/program.h"

namespace dcs3gd::nn {
namespace {

const Graph& checked(const Graph& graph, const NetworkOptions& options) {
  std::vector<bool> is_read(graph.value_count());
  for (const Node& node : graph.nodes()) {
    for (const ValueId value : node.src) is_read[static_cast<std::size_t>(value)] = true;
  }
  for (const Node& node : graph.nodes()) {
    if (node.dst != graph.output() && !is_read[static_cast<std::size_t>(node.dst)]) {
      throw Error(ErrorKind::input, format("network: nobody reads the output of layer {}", node.name));
    }
  }
  const ImageShape& output = graph.shape(graph.output());
  if (output.height != 1 || output.width != 1) {
    throw Error(ErrorKind::input,
                format("network: the last layer must give one logit per class, found {}", output.to_string()));
  }
  if (options.batch < 1) {
    throw Error(ErrorKind::input, format("network: expected a batch of at least 1 image, found {}", options.batch));
  }
  if (!supports(options.precision)) {
    throw Error(ErrorKind::input,
                format("model.precision: bf16 needs a processor with AVX-512 BF16 instructions, found {}; use fp32",
                       instruction_set()));
  }
  return graph;
}

}  // namespace

struct Network::Implementation {
  Implementation(const Graph& graph_to_plan, const NetworkOptions& network_options)
      : graph(checked(graph_to_plan, network_options)),
        options(network_options),
        parameters(graph.parameter_layout()),
        trained(parameters->part(false)),
        moving(graph.statistics_layout()->part(false)),
        frozen(frozen_tensors(graph)),
        trained_parameters(parameter_indices(*trained)),
        weights(device, parameters->slices().size()),
        running_statistics(graph.statistics_layout()),
        batch_statistics(moving),
        training(planner(true)),
        evaluation(planner(false)),
        memory(std::max(training.memory_bytes(), evaluation.memory_bytes())) {
    training.bind(memory.data());
    evaluation.bind(memory.data());
  }

  Planner planner(bool for_training) {
    return Planner({.graph = graph,
                    .device = device,
                    .weights = weights,
                    .context = context,
                    .running_statistics = running_statistics,
                    .batch_statistics = batch_statistics,
                    .parameters = *parameters,
                    .trained = *trained,
                    .options = options,
                    .range_images = for_training ? options.batch : evaluation_range(options.batch),
                    .training = for_training});
  }

  static std::shared_ptr<const ParameterLayout> frozen_tensors(const Graph& graph) {
    std::vector<ParameterSlice> slices = graph.parameter_layout()->part(true)->slices();
    std::ranges::copy(graph.statistics_layout()->part(true)->slices(), std::back_inserter(slices));
    return std::make_shared<const ParameterLayout>(std::move(slices));
  }

  std::size_t parameter_index(const ParameterSlice& slice) const {
    return static_cast<std::size_t>(parameters->find(slice.name) - parameters->slices().data());
  }

  std::vector<std::size_t> parameter_indices(const ParameterLayout& layout) const {
    std::vector<std::size_t> indices;
    indices.reserve(layout.slices().size());
    for (const ParameterSlice& slice : layout.slices()) indices.push_back(parameter_index(slice));
    return indices;
  }

  BatchResult run(Program& program, const BatchView& batch) {
    // The graph only reads its input; oneDNN has one pointer type for inputs and outputs.
    program.input()->place(const_cast<float*>(batch.images));
    context.batch = batch;
    context.result = {};
    program.run(batch.count);
    last_logits = program.logits();
    return context.result;
  }

  const Graph graph;
  const NetworkOptions options;
  const std::shared_ptr<const ParameterLayout> parameters;  ///< all of the graph
  const std::shared_ptr<const ParameterLayout> trained;
  const std::shared_ptr<const ParameterLayout> moving;
  const std::shared_ptr<const ParameterLayout> frozen;
  const std::vector<std::size_t> trained_parameters;  ///< by slice of `trained`, the place in `parameters`
  onednn::Device device;
  ComputeWeights weights;
  PassContext context;
  ParameterArena running_statistics;  ///< all, frozen or not
  ParameterArena batch_statistics;    ///< of those that move
  Program training;
  Program evaluation;
  AlignedBuffer<std::byte> memory;
  const Tensor* last_logits = nullptr;
};

Network::Network(const Graph& graph, const NetworkOptions& options) {
  try {
    implementation_ = std::make_unique<Implementation>(graph, options);
  } catch (const dnnl::error& error) {
    throw Error(ErrorKind::failure, format("network: oneDNN could not plan it: {} (status {})", error.what(),
                                           static_cast<int>(error.status)));
  }
}

Network::~Network() = default;

const std::shared_ptr<const ParameterLayout>& Network::parameter_layout() const { return implementation_->trained; }
const std::shared_ptr<const ParameterLayout>& Network::statistics_layout() const { return implementation_->moving; }
const std::shared_ptr<const ParameterLayout>& Network::frozen_layout() const { return implementation_->frozen; }
int Network::batch() const { return implementation_->options.batch; }

BatchView Network::part_of(const BatchView& whole, int part) const {
  const Graph& graph = implementation_->graph;
  const auto first = static_cast<std::int64_t>(part) * batch();
  BatchView part_of_whole = whole;
  part_of_whole.images += first * graph.shape(graph.input()).element_count();
  part_of_whole.labels += first;
  if (whole.other_labels != nullptr) part_of_whole.other_labels += first;
  part_of_whole.count = batch();
  return part_of_whole;
}
int Network::classes() const {
  const Graph& graph = implementation_->graph;
  return graph.shape(graph.output()).channels;
}

void Network::set_weights(const ParameterArena& weights) {
  const auto& slices = implementation_->trained->slices();
  for (std::size_t index = 0; index < slices.size(); ++index) set_weights(index, weights.slice(slices[index]));
}

void Network::set_weights(std::size_t slice, std::span<const float> values) {
  implementation_->weights.write(implementation_->trained_parameters[slice], values.data());
}

void Network::set_frozen(const ParameterArena& frozen) {
  copy_tensors(frozen, implementation_->running_statistics);
  for (const ParameterSlice& slice : frozen.layout().slices()) {
    if (slice.kind == ParameterKind::statistics) continue;
    implementation_->weights.write(implementation_->parameter_index(slice), frozen.slice(slice).data());
  }
}

void Network::set_running_statistics(const ParameterArena& statistics) {
  copy_tensors(statistics, implementation_->running_statistics);
}

BatchResult Network::compute_gradient(const BatchView& batch, const PassIdentity& identity, ParameterArena& gradient,
                                      const PassHooks& hooks) {
  Implementation& network = *implementation_;
  if (batch.count != network.options.batch) {
    throw Error(ErrorKind::failure, format("network: training needs full batches of {} images, found {}",
                                           network.options.batch, batch.count));
  }
  const auto& slices = network.trained->slices();
  for (std::size_t index = 0; index < slices.size(); ++index) {
    network.training.gradients()[network.trained_parameters[index]]->place(gradient.slice(slices[index]).data());
  }
  network.context.identity = identity;
  network.context.hooks = &hooks;
  return network.run(network.training, batch);
}

const ParameterArena& Network::batch_statistics() const { return implementation_->batch_statistics; }

BatchResult Network::evaluate(const BatchView& batch) {
  return implementation_->run(implementation_->evaluation, batch);
}

std::span<const float> Network::logits() const {
  const Tensor& logits = *implementation_->last_logits;
  return {logits.values(), logits.size_bytes() / sizeof(float)};
}

std::vector<LayerInfo> Network::layers() const {
  std::vector<LayerInfo> layers;
  for (const Node& node : implementation_->graph.nodes()) {
    LayerInfo layer{node.name, node.kind->label, implementation_->graph.shape(node.dst)};
    for (const std::size_t index : node.parameters) {
      const ParameterSlice& slice = implementation_->parameters->slices()[index];
      layer.parameters += slice.count;
      if (slice.is_frozen) layer.frozen += slice.count;
    }
    layers.push_back(layer);
  }
  return layers;
}

ConvolutionCount Network::convolutions() const { return implementation_->training.convolutions(); }

std::size_t Network::memory_bytes() const {
  return implementation_->memory.size() + implementation_->weights.size_bytes();
}

std::vector<KindTime> Network::times() const {
  std::vector<KindTime> times;
  implementation_->training.add_times(times);
  implementation_->evaluation.add_times(times);
  return times;
}

void Network::reset_times() {
  implementation_->training.reset_times();
  implementation_->evaluation.reset_times();
}

}  // namespace dcs3gd::nn
