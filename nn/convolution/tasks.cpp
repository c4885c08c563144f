#include "nn/convolution/tasks.h"

#include <algorithm>
#include <limits>

#include "core/stopwatch.h"
#include "nn/graph/trained_values.h"
#include "nn/plan/convolution.h"
#include "nn/plan/planner.h"

namespace dcs3gd::nn {
namespace {

using onednn::Planned;
using Direction = ConvolutionDirection;

ConvolutionTask::Arguments arguments(Direction direction) {
  switch (direction) {
    case Direction::forward:
      return {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    case Direction::backward_data:
      return {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST, 0};
    case Direction::backward_weights:
      return {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_BIAS};
  }
  return {};
}

/// Builds the tasks of one layer after the other.
class TaskList {
 public:
  TaskList(const onednn::Device& device, const Graph& graph, int images, Precision precision, bool in_ranges)
      : device_(device), graph_(graph), images_(images), precision_(precision), in_ranges_(in_ranges) {}

  /// Adds a direction of a layer if that is a convolution or linear.
  void add(Direction direction, const Node& node) {
    if (const auto* convolution = node.as<Convolution>()) {
      add_convolution(direction, node, *convolution);
    } else if (const auto* linear = node.as<Linear>()) {
      add_linear(direction, node, *linear);
    }
  }

  std::vector<ConvolutionTask> take() { return std::move(tasks_); }

 private:
  void add_convolution(Direction direction, const Node& node, const Convolution& options) {
    const ImageShape& src = graph_.shape(node.src[0]);
    ConvolutionTask& task = append(direction, options.bias ? options.oc : 0);
    const ConvolutionCase convolution{direction, src, options, images_, precision_};
    task.convolution = convolution;
    const int images = in_ranges_ ? training_range(images_, convolution) : images_;
    for (const auto algorithm : {ConvolutionAlgorithm::direct, ConvolutionAlgorithm::winograd}) {
      auto planned = plan_convolution(
          device_, direction, algorithm,
          {.src = onednn::any(image_dims(images, src), precision_),
           .weights = weights(direction, {options.oc, src.channels, options.kernel, options.kernel}, precision_),
           .dst = onednn::any(image_dims(images, graph_.shape(node.dst)), precision_),
           .bias = options.bias,
           .stride = options.stride,
           .padding = options.padding});
      if (planned) task.candidates.push_back({algorithm, std::move(*planned)});
    }
  }

  void add_linear(Direction direction, const Node& node, const Linear& options) {
    const onednn::Dims src = image_dims(images_, graph_.shape(node.src[0]));
    const onednn::LinearRequest request{.src = onednn::any(src, precision_),
                                        .weights = weights(direction, {options.oc, src[1], src[2], src[3]}, precision_),
                                        .dst = onednn::any({images_, options.oc}, precision_),
                                        .bias = options.bias};
    append(direction, options.bias ? options.oc : 0)
        .candidates.push_back({ConvolutionAlgorithm::direct, onednn::linear(device_, direction, request)});
  }

  /// Appends a task without candidates.
  ConvolutionTask& append(Direction direction, std::int64_t bias) {
    return tasks_.emplace_back(ConvolutionTask{.arguments = arguments(direction),
                                               .convolution = {},
                                               .bias = direction == Direction::backward_data ? 0 : bias,
                                               .candidates = {}});
  }

  /// The weights, or their gradient, which is fp32 in any network.
  static onednn::Descriptor weights(Direction direction, const onednn::Dims& dims, Precision precision) {
    return onednn::any(dims, direction == Direction::backward_weights ? Precision::fp32 : precision);
  }

  const onednn::Device& device_;
  const Graph& graph_;
  int images_;
  Precision precision_;
  bool in_ranges_;
  std::vector<ConvolutionTask> tasks_;
};

}  // namespace

std::vector<ConvolutionTask> convolution_tasks(const onednn::Device& device, const Graph& graph, int images,
                                               Precision precision, bool training, bool in_ranges) {
  TaskList tasks(device, graph, images, precision, in_ranges);
  const std::vector<bool> needs_gradient = trained_values(graph);
  for (const Node& node : graph.nodes()) {
    tasks.add(Direction::forward, node);
    if (!training) continue;
    if (is_trained(graph, node)) tasks.add(Direction::backward_weights, node);
    if (needs_gradient[static_cast<std::size_t>(node.src[0])]) tasks.add(Direction::backward_data, node);
  }
  return tasks.take();
}

ConvolutionTaskRunner::ConvolutionTaskRunner(const onednn::Device& device, const std::vector<ConvolutionTask>& tasks)
    : device_(device) {
  std::size_t src = 0, weights = 0, dst = 0, bias = 0, scratchpad = 0;
  for (const ConvolutionTask& task : tasks) {
    bias = std::max(bias, static_cast<std::size_t>(task.bias) * sizeof(float));
    for (const auto& [algorithm, planned] : task.candidates) {
      src = std::max(src, planned.src.get_size());
      weights = std::max(weights, planned.weights.get_size());
      dst = std::max(dst, planned.dst.get_size());
      scratchpad = std::max(scratchpad, planned.scratchpad.get_size());
    }
  }
  src_ = AlignedBuffer<std::byte>(src);
  weights_ = AlignedBuffer<std::byte>(weights);
  dst_ = AlignedBuffer<std::byte>(dst);
  bias_ = AlignedBuffer<std::byte>(bias);
  scratchpad_ = AlignedBuffer<std::byte>(scratchpad);
}

ConvolutionTaskRunner::Fastest ConvolutionTaskRunner::fastest(const ConvolutionTask& task) {
  // In turns, so that a disturbance does not hit one candidate alone; the first run pays for code and cold memory.
  constexpr int kRounds = 3;
  std::vector<std::unique_ptr<Operation>> candidates;
  for (const auto& candidate : task.candidates) candidates.push_back(make_operation(task, candidate.planned));
  std::vector<double> least_s(candidates.size(), std::numeric_limits<double>::infinity());
  const int rounds = candidates.size() > 1 ? kRounds : 0;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const Stopwatch watch;
      candidates[i]->run({});
      if (round > 0) least_s[i] = std::min(least_s[i], watch.elapsed_s());
    }
  }
  const auto best = static_cast<std::size_t>(std::ranges::min_element(least_s) - least_s.begin());
  return {task.candidates[best].algorithm, std::move(candidates[best])};
}

std::unique_ptr<Operation> ConvolutionTaskRunner::make_operation(const ConvolutionTask& task, const Planned& planned) {
  std::vector<PrimitiveOperation::Argument> arguments{{task.arguments.src, tensor(planned.src, src_)},
                                                      {task.arguments.weights, tensor(planned.weights, weights_)},
                                                      {task.arguments.dst, tensor(planned.dst, dst_)}};
  if (task.bias > 0) arguments.push_back({task.arguments.bias, tensor(onednn::plain({task.bias}), bias_)});
  if (planned.scratchpad.get_size() > 0) {
    arguments.push_back({DNNL_ARG_SCRATCHPAD, tensor(planned.scratchpad, scratchpad_)});
  }
  auto operation = std::make_unique<PrimitiveOperation>("task", "convolution", device_, planned, std::move(arguments));
  operation->bind();
  return operation;
}

Tensor* ConvolutionTaskRunner::tensor(const onednn::Descriptor& desc, AlignedBuffer<std::byte>& memory) {
  tensors_.push_back(std::make_unique<Tensor>("task", desc, Tensor::Memory::external));
  tensors_.back()->place(memory.data());
  return tensors_.back().get();
}

}  // namespace dcs3gd::nn
