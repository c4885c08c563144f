#include "tests/nn/reference/reference_network.h"

#include <algorithm>

namespace dcs3gd::nn::reference {
namespace {

/// One visitor from a few lambdas.
template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

/// The values of a node's parameter or statistic in a flat array; empty if the node has fewer.
template <typename Value>
std::span<Value> slice(std::span<Value> values, const ParameterLayout& layout, const std::vector<std::size_t>& indices,
                       std::size_t which) {
  if (which >= indices.size()) return {};
  const ParameterSlice& slice = layout.slices()[indices[which]];
  return values.subspan(slice.offset, slice.count);
}

std::vector<double> copy(std::span<const double> values) { return {values.begin(), values.end()}; }

void add(Tensor& sum, const Tensor& part) {
  if (sum.values.empty()) {
    sum = part;
    return;
  }
  for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += part.values[i];
}

BatchResult counts_of(const Loss& loss, int images) {
  return {.loss_sum = loss.sum, .correct_top1 = loss.correct_top1, .correct_top5 = loss.correct_top5, .images = images};
}

}  // namespace

/// All a backward pass may ask for.
struct ReferenceNetwork::ForwardPass {
  PassIdentity identity;
  std::vector<Tensor> values;          ///< by ValueId
  std::vector<Statistics> statistics;  ///< by ValueId of a batch norm's dst

  const Tensor& value(ValueId id) const { return values[static_cast<std::size_t>(id)]; }
};

ReferenceNetwork::ReferenceNetwork(const Graph& graph, const NetworkOptions& options)
    : graph_(graph),
      options_(options),
      parameters_(graph.parameter_layout()),
      statistics_(graph.statistics_layout()),
      weights_(parameters_->element_count()),
      running_statistics_(statistics_->element_count()) {}

ReferenceNetwork::ForwardPass ReferenceNetwork::run_forward(const BatchView& batch, const PassIdentity& identity,
                                                            bool training) const {
  ForwardPass pass{.identity = identity};
  pass.values.resize(graph_.value_count());
  pass.statistics.resize(graph_.value_count());
  Tensor& input = pass.values[static_cast<std::size_t>(graph_.input())];
  input = Tensor(batch.count, graph_.shape(graph_.input()));
  std::copy_n(batch.images, input.values.size(), input.values.begin());

  for (const Node& node : graph_.nodes()) {
    const Tensor& src = pass.value(node.src[0]);
    const ImageShape& dst_shape = graph_.shape(node.dst);
    const auto parameter = [&](std::size_t which) {
      return slice<const double>(weights_, *parameters_, node.parameters, which);
    };
    const auto running = [&](std::size_t which) {
      return copy(slice<const double>(running_statistics_, *statistics_, node.statistics, which));
    };
    pass.values[static_cast<std::size_t>(node.dst)] = std::visit(
        Overloaded{
            [&](const Convolution& options) {
              return convolution_forward(options, dst_shape, src, parameter(0), parameter(1));
            },
            [&](const BatchNorm& options) {
              Statistics& statistics = pass.statistics[static_cast<std::size_t>(node.dst)];
              statistics = training ? batch_norm_statistics(src) : Statistics{running(0), running(1)};
              return batch_norm_forward(options, src, statistics, parameter(0), parameter(1));
            },
            [&](const Relu&) { return relu_forward(src); },
            [&](const Pooling& options) { return pooling_forward(options, dst_shape, src); },
            [&](const GlobalAveragePooling&) { return global_average_pooling_forward(src); },
            [&](const AdaptiveAveragePooling& options) { return adaptive_average_pooling_forward(options, src); },
            [&](const Linear& options) { return linear_forward(options, src, parameter(0), parameter(1)); },
            [&](const Dropout& options) {
              return training ? dropout(options, dropout_stream(node, identity), first_image(identity), src) : src;
            },
            [&](const Addition& options) { return addition_forward(options, src, pass.value(node.src[1])); }},
        node.options);
  }
  return pass;
}

std::vector<Tensor> ReferenceNetwork::run_backward(const Node& node, const ForwardPass& forward, const Tensor& diff_dst,
                                                   std::span<double> gradient) const {
  const Tensor& src = forward.value(node.src[0]);
  const Tensor& dst = forward.value(node.dst);
  const auto weights = [&](std::size_t which) {
    return slice<const double>(weights_, *parameters_, node.parameters, which);
  };
  const auto diff_weights = [&](std::size_t which) {
    return slice<double>(gradient, *parameters_, node.parameters, which);
  };
  using Tensors = std::vector<Tensor>;
  return std::visit(
      Overloaded{
          [&](const Convolution& options) {
            return Tensors{convolution_backward(options, src, diff_dst, weights(0), diff_weights(0), diff_weights(1))};
          },
          [&](const BatchNorm& options) {
            const Statistics& statistics = forward.statistics[static_cast<std::size_t>(node.dst)];
            return Tensors{batch_norm_backward(options, src, statistics, dst, diff_dst, weights(0), diff_weights(0),
                                               diff_weights(1))};
          },
          [&](const Relu&) { return Tensors{relu_backward(dst, diff_dst)}; },
          [&](const Pooling& options) { return Tensors{pooling_backward(options, src, diff_dst)}; },
          [&](const GlobalAveragePooling&) { return Tensors{global_average_pooling_backward(src.shape, diff_dst)}; },
          [&](const AdaptiveAveragePooling& options) {
            return Tensors{adaptive_average_pooling_backward(options, src.shape, diff_dst)};
          },
          [&](const Linear&) {
            return Tensors{linear_backward(src, diff_dst, weights(0), diff_weights(0), diff_weights(1))};
          },
          [&](const Dropout& options) {
            return Tensors{
                dropout(options, dropout_stream(node, forward.identity), first_image(forward.identity), diff_dst)};
          },
          [&](const Addition& options) {
            const Tensor diff_src = addition_backward(options, dst, diff_dst);
            return Tensors{diff_src, diff_src};
          }},
      node.options);
}

RandomStream ReferenceNetwork::dropout_stream(const Node& node, const PassIdentity& identity) const {
  return {options_.seed, RandomPurpose::dropout, static_cast<std::uint64_t>(identity.step),
          static_cast<std::uint64_t>(identity.worker), static_cast<std::uint64_t>(node.dst)};
}

PassResult ReferenceNetwork::compute_gradient(const BatchView& batch, const PassIdentity& identity) const {
  const ForwardPass forward = run_forward(batch, identity, true);
  const auto count = static_cast<std::size_t>(batch.count);
  PassResult result{.logits = forward.value(graph_.output()), .gradient = std::vector<double>(weights_.size())};
  const auto smoothing = static_cast<double>(options_.label_smoothing);
  Loss loss = cross_entropy(result.logits, {batch.labels, count}, smoothing);
  if (batch.other_labels != nullptr) {
    loss = mix(static_cast<double>(batch.label_share), loss,
               cross_entropy(result.logits, {batch.other_labels, count}, smoothing));
  }
  result.counts = counts_of(loss, batch.count);

  std::vector<Tensor> gradients(graph_.value_count());
  gradients.back() = loss.diff_logits;
  for (std::size_t index = graph_.nodes().size(); index-- > 0;) {
    const Node& node = graph_.nodes()[index];
    const std::vector<Tensor> diff_src =
        run_backward(node, forward, gradients[static_cast<std::size_t>(node.dst)], result.gradient);
    for (std::size_t i = 0; i < node.src.size(); ++i) {
      add(gradients[static_cast<std::size_t>(node.src[i])], diff_src[i]);
    }
  }
  result.batch_statistics = batch_statistics(forward);
  return result;
}

std::vector<double> ReferenceNetwork::batch_statistics(const ForwardPass& forward) const {
  std::vector<double> result(statistics_->element_count());
  for (const Node& node : graph_.nodes()) {
    if (node.statistics.empty()) continue;
    const Tensor& src = forward.value(node.src[0]);
    const double values = static_cast<double>(src.images) * src.shape.height * src.shape.width;
    const Statistics& batch = forward.statistics[static_cast<std::size_t>(node.dst)];
    const auto mean = slice<double>(result, *statistics_, node.statistics, 0);
    const auto variance = slice<double>(result, *statistics_, node.statistics, 1);
    for (std::size_t c = 0; c < mean.size(); ++c) {
      mean[c] = batch.mean[c];
      variance[c] = batch.variance[c] * values / (values - 1);
    }
  }
  return result;
}

PassResult ReferenceNetwork::evaluate(const BatchView& batch) const {
  const ForwardPass forward = run_forward(batch, {}, false);
  PassResult result{.logits = forward.value(graph_.output())};
  result.counts =
      counts_of(cross_entropy(result.logits, {batch.labels, static_cast<std::size_t>(batch.count)}, 0), batch.count);
  return result;
}

}  // namespace dcs3gd::nn::reference
