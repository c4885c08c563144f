#include "tests/nn/reference/reference_network.h"

#include <algorithm>
#include <typeinfo>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn::reference {
namespace {

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

/// How a kind of layer is computed.
struct ReferenceKind {
  const std::type_info& options;
  Tensor (*forward)(const Node&, const LayerPass&);
  std::vector<Tensor> (*backward)(const Node&, const LayerPass&, const Tensor& diff_dst);
};

template <typename Options>
ReferenceKind kind() {
  return {typeid(Options), [](const Node& node, const LayerPass& pass) { return forward(*node.as<Options>(), pass); },
          [](const Node& node, const LayerPass& pass, const Tensor& diff_dst) {
            return backward(*node.as<Options>(), pass, diff_dst);
          }};
}

const ReferenceKind& kind_of(const Node& node) {
  static const ReferenceKind kinds[] = {kind<Convolution>(),
                                        kind<BatchNorm>(),
                                        kind<Relu>(),
                                        kind<Pooling>(),
                                        kind<GlobalAveragePooling>(),
                                        kind<AdaptiveAveragePooling>(),
                                        kind<Linear>(),
                                        kind<Dropout>(),
                                        kind<Addition>()};
  for (const ReferenceKind& candidate : kinds) {
    if (candidate.options == node.options.type()) return candidate;
  }
  throw Error(ErrorKind::failure, format("reference: it does not know the kind of layer {}", node.name));
}

}  // namespace

/// All a backward pass may ask for.
struct ReferenceNetwork::ForwardPass {
  PassIdentity identity;
  bool training = false;
  std::vector<Tensor> values;          ///< by ValueId
  std::vector<Statistics> statistics;  ///< by ValueId of a batch norm's dst

  Tensor& value(ValueId id) { return values[static_cast<std::size_t>(id)]; }
  const Tensor& value(ValueId id) const { return values[static_cast<std::size_t>(id)]; }
};

ReferenceNetwork::ReferenceNetwork(const Graph& graph, const NetworkOptions& options)
    : graph_(graph),
      options_(options),
      parameters_(graph.parameter_layout()),
      statistics_(graph.statistics_layout()),
      weights_(parameters_->element_count()),
      running_statistics_(statistics_->element_count()) {}

LayerPass ReferenceNetwork::layer_pass(const Node& node, ForwardPass& pass) const {
  const auto weights = [&](std::size_t which) {
    return slice<const double>(weights_, *parameters_, node.parameters, which);
  };
  LayerPass layer{.training = pass.training,
                  .dst_shape = graph_.shape(node.dst),
                  .parameters = {weights(0), weights(1)},
                  .statistics = &pass.statistics[static_cast<std::size_t>(node.dst)],
                  .random = {options_.seed, RandomPurpose::dropout, static_cast<std::uint64_t>(pass.identity.step),
                             static_cast<std::uint64_t>(pass.identity.worker), static_cast<std::uint64_t>(node.dst)},
                  .first_image = pass.identity.part * options_.batch};
  for (const ValueId source : node.src) layer.sources.push_back(&pass.value(source));
  return layer;
}

ReferenceNetwork::ForwardPass ReferenceNetwork::run_forward(const BatchView& batch, const PassIdentity& identity,
                                                            bool training) const {
  ForwardPass pass{.identity = identity, .training = training};
  pass.values.resize(graph_.value_count());
  pass.statistics.resize(graph_.value_count());
  Tensor& input = pass.value(graph_.input());
  input = Tensor(batch.count, graph_.shape(graph_.input()));
  std::copy_n(batch.images, input.values.size(), input.values.begin());

  for (const Node& node : graph_.nodes()) {
    const LayerPass layer = layer_pass(node, pass);
    const auto running = [&](std::size_t which) {
      return copy(slice<const double>(running_statistics_, *statistics_, node.statistics, which));
    };
    *layer.statistics = {running(0), running(1)};
    pass.value(node.dst) = kind_of(node).forward(node, layer);
  }
  return pass;
}

std::vector<Tensor> ReferenceNetwork::run_backward(const Node& node, ForwardPass& forward, const Tensor& diff_dst,
                                                   std::span<double> gradient) const {
  LayerPass layer = layer_pass(node, forward);
  layer.dst = &forward.value(node.dst);
  for (std::size_t which = 0; which < layer.diff_parameters.size(); ++which) {
    layer.diff_parameters[which] = slice<double>(gradient, *parameters_, node.parameters, which);
  }
  return kind_of(node).backward(node, layer, diff_dst);
}

PassResult ReferenceNetwork::compute_gradient(const BatchView& batch, const PassIdentity& identity) const {
  ForwardPass forward = run_forward(batch, identity, true);
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
