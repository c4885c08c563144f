#include "nn/graph/graph.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::nn {
namespace {

/// torch.nn.Conv2d and Linear: kaiming_uniform(a = √5) for weights and uniform(±1/√fan_in) for biases, the same bound.
Initializer torch_default(std::int64_t fan_in) {
  return {Initializer::Kind::uniform, static_cast<float>(1 / std::sqrt(static_cast<double>(fan_in)))};
}

int windows(const std::string& name, int size, int kernel, int stride, int padding) {
  if (size + 2 * padding < kernel) {
    throw Error(ErrorKind::input,
                format("layer {}: its input is {} pixels wide, smaller than its {}-pixel window; use larger images "
                       "(data.image_size) or a model for small ones",
                       name, size, kernel));
  }
  return (size + 2 * padding - kernel) / stride + 1;
}

}  // namespace

std::string ImageShape::to_string() const { return format("{}x{}x{}", channels, height, width); }

const char* layer_kind(const LayerOptions& options) {
  struct Names {
    const char* operator()(const Convolution&) const { return "convolution"; }
    const char* operator()(const BatchNorm&) const { return "batch norm"; }
    const char* operator()(const Relu&) const { return "relu"; }
    const char* operator()(const Pooling&) const { return "pooling"; }
    const char* operator()(const GlobalAveragePooling&) const { return "pooling"; }
    const char* operator()(const AdaptiveAveragePooling&) const { return "pooling"; }
    const char* operator()(const Linear&) const { return "linear"; }
    const char* operator()(const Dropout&) const { return "dropout"; }
    const char* operator()(const Addition&) const { return "addition"; }
  };
  return std::visit(Names{}, options);
}

Graph::Graph(ImageShape input) : shapes_{input} {}

ValueId Graph::convolution(const std::string& name, ValueId src, const Convolution& options) {
  const std::int64_t fan_in = std::int64_t{shape(src).channels} * options.kernel * options.kernel;
  return convolution(name, src, options, torch_default(fan_in), torch_default(fan_in));
}

ValueId Graph::convolution(const std::string& name, ValueId src, const Convolution& options, Initializer weights,
                           Initializer bias) {
  const ImageShape in = shape(src);
  const ImageShape out{options.oc, windows(name, in.height, options.kernel, options.stride, options.padding),
                       windows(name, in.width, options.kernel, options.stride, options.padding)};
  Node node{.name = name, .options = options, .src = {src}};
  node.parameters.push_back(add_parameter(name + ".weight", {options.oc, in.channels, options.kernel, options.kernel},
                                          ParameterKind::weight, weights));
  if (options.bias) {
    node.parameters.push_back(add_parameter(name + ".bias", {options.oc}, ParameterKind::bias, bias));
  }
  return append(std::move(node), out);
}

ValueId Graph::batch_norm(const std::string& name, ValueId src, const BatchNorm& options, float gamma) {
  const int channels = shape(src).channels;
  Node node{.name = name, .options = options, .src = {src}};
  node.parameters = {
      add_parameter(name + ".weight", {channels}, ParameterKind::norm, {Initializer::Kind::constant, gamma}),
      add_parameter(name + ".bias", {channels}, ParameterKind::norm, {Initializer::Kind::constant, 0})};
  node.statistics = {add_statistic(name + ".running_mean", channels), add_statistic(name + ".running_var", channels)};
  return append(std::move(node), shape(src));
}

ValueId Graph::relu(ValueId src) {
  return append({.name = unnamed("relu"), .options = Relu{}, .src = {src}}, shape(src));
}

ValueId Graph::pooling(ValueId src, const Pooling& options) {
  const std::string name = unnamed("pooling");
  const ImageShape in = shape(src);
  if (options.padding >= options.kernel) {
    throw Error(ErrorKind::input, format("layer {}: expected a padding smaller than the {}-pixel window, found {}",
                                         name, options.kernel, options.padding));
  }
  return append({.name = name, .options = options, .src = {src}},
                {in.channels, windows(name, in.height, options.kernel, options.stride, options.padding),
                 windows(name, in.width, options.kernel, options.stride, options.padding)});
}

ValueId Graph::global_average_pooling(ValueId src) {
  return append({.name = unnamed("pooling"), .options = GlobalAveragePooling{}, .src = {src}},
                {shape(src).channels, 1, 1});
}

ValueId Graph::adaptive_average_pooling(ValueId src, const AdaptiveAveragePooling& options) {
  return append({.name = unnamed("pooling"), .options = options, .src = {src}},
                {shape(src).channels, options.size, options.size});
}

ValueId Graph::linear(const std::string& name, ValueId src, const Linear& options) {
  const Initializer initializer = torch_default(shape(src).element_count());
  return linear(name, src, options, initializer, initializer);
}

ValueId Graph::linear(const std::string& name, ValueId src, const Linear& options, Initializer weights,
                      Initializer bias) {
  Node node{.name = name, .options = options, .src = {src}};
  node.parameters.push_back(
      add_parameter(name + ".weight", {options.oc, shape(src).element_count()}, ParameterKind::weight, weights));
  if (options.bias) {
    node.parameters.push_back(add_parameter(name + ".bias", {options.oc}, ParameterKind::bias, bias));
  }
  return append(std::move(node), {options.oc, 1, 1});
}

ValueId Graph::dropout(ValueId src, const Dropout& options) {
  const std::string name = unnamed("dropout");
  if (!(options.probability >= 0 && options.probability < 1)) {
    throw Error(ErrorKind::input, format("layer {}: expected a probability of at least 0 and below 1, found {}", name,
                                         options.probability));
  }
  return append({.name = name, .options = options, .src = {src}}, shape(src));
}

ValueId Graph::addition(ValueId src0, ValueId src1, const Addition& options) {
  const std::string name = unnamed("addition");
  if (shape(src0) != shape(src1)) {
    throw Error(ErrorKind::input, format("layer {}: cannot add {} and {}; both inputs need the same shape", name,
                                         shape(src0).to_string(), shape(src1).to_string()));
  }
  return append({.name = name, .options = options, .src = {src0, src1}}, shape(src0));
}

ValueId Graph::append(Node node, ImageShape dst) {
  node.dst = static_cast<ValueId>(shapes_.size());
  shapes_.push_back(dst);
  nodes_.push_back(std::move(node));
  return nodes_.back().dst;
}

std::size_t Graph::add_parameter(std::string name, Shape shape, ParameterKind kind, Initializer initializer) {
  parameters_.push_back({.name = std::move(name), .shape = std::move(shape), .kind = kind});
  initializers_.push_back(initializer);
  return parameters_.size() - 1;
}

std::size_t Graph::add_statistic(std::string name, int channels) {
  statistics_.push_back({.name = std::move(name), .shape = {channels}, .kind = ParameterKind::statistics});
  return statistics_.size() - 1;
}

std::string Graph::unnamed(const char* kind) const { return format("{}{}", kind, nodes_.size()); }

std::shared_ptr<const ParameterLayout> Graph::parameter_layout() const {
  return std::make_shared<const ParameterLayout>(parameters_);
}

std::shared_ptr<const ParameterLayout> Graph::statistics_layout() const {
  return std::make_shared<const ParameterLayout>(statistics_);
}

void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& weights, ParameterArena& statistics) {
  const auto& slices = weights.layout().slices();
  for (std::size_t index = 0; index < slices.size(); ++index) {
    RandomStream random(seed, RandomPurpose::initialization, index);
    const Initializer& initializer = graph.initializers()[index];
    for (float& value : weights.slice(slices[index])) {
      switch (initializer.kind) {
        case Initializer::Kind::constant:
          value = initializer.value;
          break;
        case Initializer::Kind::normal:
          value = initializer.value * random.normal();
          break;
        case Initializer::Kind::uniform:
          value = random.uniform(-initializer.value, initializer.value);
          break;
      }
    }
  }
  for (const Node& node : graph.nodes()) {
    if (node.statistics.empty()) continue;
    const auto& statistics_slices = statistics.layout().slices();
    std::ranges::fill(statistics.slice(statistics_slices[node.statistics[0]]), 0.0F);
    std::ranges::fill(statistics.slice(statistics_slices[node.statistics[1]]), 1.0F);
  }
}

}  // namespace dcs3gd::nn
