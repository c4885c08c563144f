#include "nn/convolution_bound.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/stopwatch.h"
#include "nn/operation.h"

namespace dcs3gd::nn {
namespace {

using onednn::Planned;

/// oneDNN's names for what one direction of a layer reads and writes.
struct Direction {
  int src, weights, dst, bias;
};
constexpr Direction kForward{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
constexpr Direction kBackwardData{DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST, 0};
constexpr Direction kBackwardWeights{DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_BIAS};

/// One direction of one layer: the ways to compute it.
struct Task {
  Direction direction;
  std::int64_t bias = 0;  ///< elements; 0: none
  std::vector<Planned> candidates;
};

using ConvolutionPlan = Planned (*)(const onednn::Device&, const onednn::ConvolutionRequest&);

std::vector<Planned> convolution_candidates(const onednn::Device& device, ConvolutionPlan plan,
                                            onednn::ConvolutionRequest request) {
  std::vector<Planned> candidates{plan(device, request)};
  request.algorithm = onednn::Algorithm::winograd;
  try {
    candidates.push_back(plan(device, request));
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
  }
  return candidates;
}

void add_convolution(std::vector<Task>& tasks, const onednn::Device& device, const Graph& graph, const Node& node,
                     const Convolution& options, int batch) {
  const ImageShape& src = graph.shape(node.src[0]);
  const onednn::ConvolutionRequest request{
      .src = onednn::any(onednn::image_dims(batch, src)),
      .weights = onednn::any({options.oc, src.channels, options.kernel, options.kernel}),
      .dst = onednn::any(onednn::image_dims(batch, graph.shape(node.dst))),
      .bias = options.bias,
      .stride = options.stride,
      .padding = options.padding};
  const std::int64_t bias = options.bias ? options.oc : 0;
  tasks.push_back({kForward, bias, convolution_candidates(device, onednn::convolution_forward, request)});
  tasks.push_back(
      {kBackwardWeights, bias, convolution_candidates(device, onednn::convolution_backward_weights, request)});
  if (node.src[0] == graph.input()) return;
  tasks.push_back({kBackwardData, 0, convolution_candidates(device, onednn::convolution_backward_data, request)});
}

void add_linear(std::vector<Task>& tasks, const onednn::Device& device, const Graph& graph, const Node& node,
                const Linear& options, int batch) {
  const onednn::Dims src = onednn::image_dims(batch, graph.shape(node.src[0]));
  onednn::Dims weights = src;
  weights[0] = options.oc;
  const onednn::LinearRequest request{.src = onednn::any(src),
                                      .weights = onednn::any(weights),
                                      .dst = onednn::any({batch, options.oc}),
                                      .bias = options.bias};
  const std::int64_t bias = options.bias ? options.oc : 0;
  tasks.push_back({kForward, bias, {onednn::linear_forward(device, request)}});
  tasks.push_back({kBackwardWeights, bias, {onednn::linear_backward_weights(device, request)}});
  tasks.push_back({kBackwardData, 0, {onednn::linear_backward_data(device, request)}});
}

}  // namespace

struct ConvolutionBound::Implementation {
  Implementation(const Graph& graph, int batch) {
    std::vector<Task> tasks;
    for (const Node& node : graph.nodes()) {
      if (const auto* convolution = std::get_if<Convolution>(&node.options)) {
        add_convolution(tasks, device_, graph, node, *convolution, batch);
      } else if (const auto* linear = std::get_if<Linear>(&node.options)) {
        add_linear(tasks, device_, graph, node, *linear, batch);
      }
    }
    allocate(tasks);
    for (const Task& task : tasks) fastest_.push_back(choose(task));
  }

  double run() {
    const Stopwatch watch;
    for (const auto& operation : fastest_) operation->run({});
    return watch.elapsed_s();
  }

 private:
  /// What is computed does not matter, so all primitives share one block of memory for each role.
  void allocate(const std::vector<Task>& tasks) {
    std::size_t src = 0, weights = 0, dst = 0, bias = 0, scratchpad = 0;
    for (const Task& task : tasks) {
      bias = std::max(bias, static_cast<std::size_t>(task.bias) * sizeof(float));
      for (const Planned& planned : task.candidates) {
        src = std::max(src, planned.src.get_size());
        weights = std::max(weights, planned.weights.get_size());
        dst = std::max(dst, planned.dst.get_size());
        scratchpad = std::max(scratchpad, planned.scratchpad_bytes);
      }
    }
    src_ = AlignedBuffer<std::byte>(src);
    weights_ = AlignedBuffer<std::byte>(weights);
    dst_ = AlignedBuffer<std::byte>(dst);
    bias_ = AlignedBuffer<std::byte>(bias);
    scratchpad_ = AlignedBuffer<std::byte>(scratchpad);
  }

  std::unique_ptr<PrimitiveOperation> choose(const Task& task) {
    std::unique_ptr<PrimitiveOperation> fastest;
    double fastest_s = std::numeric_limits<double>::infinity();
    for (const Planned& planned : task.candidates) {
      auto operation = make_operation(task, planned);
      operation->run({});  // warm up: the first run of a primitive pays for its code and its memory
      const double seconds = time(*operation);
      if (seconds < fastest_s) {
        fastest_s = seconds;
        fastest = std::move(operation);
      }
    }
    return fastest;
  }

  static double time(PrimitiveOperation& operation) {
    constexpr int kRuns = 2;
    double fastest_s = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kRuns; ++run) {
      const Stopwatch watch;
      operation.run({});
      fastest_s = std::min(fastest_s, watch.elapsed_s());
    }
    return fastest_s;
  }

  std::unique_ptr<PrimitiveOperation> make_operation(const Task& task, const Planned& planned) {
    std::vector<PrimitiveOperation::Argument> arguments{{task.direction.src, tensor(planned.src, src_)},
                                                        {task.direction.weights, tensor(planned.weights, weights_)},
                                                        {task.direction.dst, tensor(planned.dst, dst_)}};
    if (task.bias > 0) arguments.push_back({task.direction.bias, tensor(onednn::plain({task.bias}), bias_)});
    auto operation = std::make_unique<PrimitiveOperation>("bound", "bound", device_, planned, std::move(arguments));
    operation->bind(scratchpad_.data());
    return operation;
  }

  Tensor* tensor(const onednn::Descriptor& desc, AlignedBuffer<std::byte>& memory) {
    tensors_.push_back(std::make_unique<Tensor>("bound", desc, Tensor::Memory::external));
    tensors_.back()->place(memory.data());
    return tensors_.back().get();
  }

  onednn::Device device_;
  AlignedBuffer<std::byte> src_, weights_, dst_, bias_, scratchpad_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<std::unique_ptr<PrimitiveOperation>> fastest_;
};

ConvolutionBound::ConvolutionBound(const Graph& graph, int batch)
    : implementation_(std::make_unique<Implementation>(graph, batch)) {}

ConvolutionBound::~ConvolutionBound() = default;

double ConvolutionBound::run() { return implementation_->run(); }

}  // namespace dcs3gd::nn
