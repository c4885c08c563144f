#include "app/predict/onnx_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/record/protobuf_message.h"
#include "core/error.h"
#include "core/format.h"
#include "core/version.h"
#include "nn/graph/layer_options.h"

namespace dcs3gd::app {
namespace {

constexpr std::int64_t kIrVersion = 8;
constexpr std::int64_t kOperatorSet = 13;
constexpr std::size_t kMostBytes = std::size_t{1} << 30;  // of parameters; the format's own limit is twice that

// Numbers of fields and values as in onnx.proto (github.com/onnx/onnx).
constexpr int kModelIr = 1;
constexpr int kProducer = 2;
constexpr int kProducerVersion = 3;
constexpr int kGraph = 7;
constexpr int kOpset = 8;
constexpr int kMetadata = 14;
constexpr int kNode = 1;
constexpr int kGraphName = 2;
constexpr int kInitializer = 5;
constexpr int kInput = 11;
constexpr int kOutput = 12;
constexpr int kNodeInput = 1;
constexpr int kNodeOutput = 2;
constexpr int kNodeName = 3;
constexpr int kOperator = 4;
constexpr int kAttribute = 5;
constexpr int kAttributeName = 1;
constexpr int kFloat = 2;
constexpr int kInt = 3;
constexpr int kInts = 8;
constexpr int kType = 20;
constexpr std::int64_t kIsFloat = 1;
constexpr std::int64_t kIsInt = 2;
constexpr std::int64_t kIsInts = 7;
constexpr int kDims = 1;
constexpr int kDataType = 2;
constexpr int kTensorName = 8;
constexpr int kRawData = 9;
constexpr std::int64_t kFloat32 = 1;
constexpr std::int64_t kInt64 = 7;

using Names = std::vector<std::string>;
using Numbers = std::vector<std::int64_t>;

ProtobufMessage pair_of(const std::string& key, const std::string& value) {
  ProtobufMessage message;
  message.add(1, std::string_view(key));
  message.add(2, std::string_view(value));
  return message;
}

/// N × shape, float.
ProtobufMessage value_info(const std::string& name, const Numbers& shape) {
  ProtobufMessage dimensions;
  ProtobufMessage batch;
  batch.add(2, std::string_view("N"));
  dimensions.add(1, batch);
  for (const std::int64_t length : shape) {
    ProtobufMessage dimension;
    dimension.add(1, length);
    dimensions.add(1, dimension);
  }
  ProtobufMessage tensor;
  tensor.add(1, kFloat32);
  tensor.add(2, dimensions);
  ProtobufMessage type;
  type.add(1, tensor);
  ProtobufMessage info;
  info.add(1, std::string_view(name));
  info.add(2, type);
  return info;
}

/// One node with its attributes.
class OnnxNode {
 public:
  OnnxNode(std::string_view type, const std::string& name, const Names& inputs, const std::string& output) {
    for (const std::string& input : inputs) node_.add(kNodeInput, std::string_view(input));
    node_.add(kNodeOutput, std::string_view(output));
    node_.add(kNodeName, std::string_view(name));
    node_.add(kOperator, type);
  }

  OnnxNode& with(std::string_view name, std::int64_t value) {
    ProtobufMessage attribute = named(name, kIsInt);
    attribute.add(kInt, value);
    return add(attribute);
  }
  OnnxNode& with(std::string_view name, float value) {
    ProtobufMessage attribute = named(name, kIsFloat);
    attribute.add(kFloat, value);
    return add(attribute);
  }
  OnnxNode& with(std::string_view name, const Numbers& values) {
    ProtobufMessage attribute = named(name, kIsInts);
    for (const std::int64_t value : values) attribute.add(kInts, value);
    return add(attribute);
  }
  /// Square windows.
  OnnxNode& with_window(std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
    return with("kernel_shape", Numbers{kernel, kernel})
        .with("strides", Numbers{stride, stride})
        .with("pads", Numbers(4, padding));
  }

  const ProtobufMessage& message() const { return node_; }

 private:
  static ProtobufMessage named(std::string_view name, std::int64_t type) {
    ProtobufMessage attribute;
    attribute.add(kAttributeName, name);
    attribute.add(kType, type);
    return attribute;
  }
  OnnxNode& add(const ProtobufMessage& attribute) {
    node_.add(kAttribute, attribute);
    return *this;
  }

  ProtobufMessage node_;
};

/// Writes a graph layer by layer. Values are called "LAYER:WHAT".
class OnnxGraph {
 public:
  OnnxGraph(const nn::Graph& graph, const ParameterArena& weights, const ParameterArena& statistics,
            bool fold_batch_norm)
      : source_(graph),
        weights_(weights),
        statistics_(statistics),
        folds_(fold_batch_norm),
        readers_(graph.reader_counts()),
        names_(graph.value_count()),
        folded_(graph.value_count()) {
    names_.front() = "images";
  }

  ProtobufMessage write(const std::string& name, int classes) {
    graph_.add(kGraphName, std::string_view(name));
    for (const nn::Node& node : source_.nodes()) write(node);
    // Without a linear layer at the end the logits are an image of one pixel.
    add(OnnxNode("Flatten", "logits", {name_of(source_.output())}, "logits").with("axis", std::int64_t{1}));
    const nn::ImageShape& input = source_.shape(source_.input());
    graph_.add(kInput, value_info("images", {input.channels, input.height, input.width}));
    graph_.add(kOutput, value_info("logits", {classes}));
    return std::move(graph_);
  }

 private:
  // --- what is where ---

  std::string& name_of(nn::ValueId value) { return names_[static_cast<std::size_t>(value)]; }
  const nn::Node*& folded(nn::ValueId value) { return folded_[static_cast<std::size_t>(value)]; }
  const std::string& src(const nn::Node& node, std::size_t index = 0) { return name_of(node.src[index]); }
  static std::span<const float> values(const ParameterArena& arena, std::size_t slice) {
    return arena.slice(arena.layout().slices()[slice]);
  }

  // --- what is written ---

  void add(const OnnxNode& node) { graph_.add(kNode, node.message()); }

  /// A layer whose node `make` makes, given the name of its output; then its ReLU, if it has one.
  template <typename Make>
  void add_layer(const nn::Node& node, bool relu, const Make& make) {
    const std::string dst = node.name + ":dst";
    const std::string before = relu ? node.name + ":before_relu" : dst;
    add(make(before));
    if (relu) add({"Relu", node.name + ":relu", {before}, dst});
    name_of(node.dst) = dst;
  }

  std::string tensor(const std::string& name, const Numbers& dims, std::int64_t type,
                     std::span<const std::byte> values) {
    ProtobufMessage message;
    for (const std::int64_t length : dims) message.add(kDims, length);
    message.add(kDataType, type);
    message.add(kTensorName, std::string_view(name));
    message.add(kRawData, std::string_view(reinterpret_cast<const char*>(values.data()), values.size()));
    graph_.add(kInitializer, message);
    return name;
  }
  std::string tensor(const std::string& name, const Numbers& dims, std::span<const float> values) {
    return tensor(name, dims, kFloat32, std::as_bytes(values));
  }
  std::string integers(const std::string& name, const Numbers& values) {
    return tensor(name, {static_cast<std::int64_t>(values.size())}, kInt64, std::as_bytes(std::span(values)));
  }

  /// A layer's input, then its parameters and statistics under their own names.
  Names inputs(const nn::Node& node, const std::string& first) {
    Names names = {first};
    const auto add_all = [&](const ParameterArena& arena, const std::vector<std::size_t>& slices) {
      for (const std::size_t slice : slices) {
        const ParameterSlice& parameter = arena.layout().slices()[slice];
        names.push_back(tensor(parameter.name, parameter.shape.dims(), values(arena, slice)));
      }
    };
    add_all(weights_, node.parameters);
    add_all(statistics_, node.statistics);
    return names;
  }

  // --- kinds of layers ---

  void write(const nn::Node& node) {
    if (const auto* convolution = node.as<nn::Convolution>()) return write(node, *convolution);
    if (const auto* norm = node.as<nn::BatchNorm>()) return write(node, *norm);
    if (const auto* pooling = node.as<nn::Pooling>()) return write(node, *pooling);
    if (const auto* pooling = node.as<nn::AdaptiveAveragePooling>()) return write(node, *pooling);
    if (const auto* addition = node.as<nn::Addition>()) return write(node, *addition);
    if (node.as<nn::Relu>() != nullptr) return write_plain("Relu", node);
    if (node.as<nn::GlobalAveragePooling>() != nullptr) return write_plain("GlobalAveragePool", node);
    if (node.as<nn::Linear>() != nullptr) return write_linear(node);
    if (node.as<nn::Dropout>() != nullptr) {
      name_of(node.dst) = src(node);
      return;
    }
    throw Error(ErrorKind::failure, format("layer {}: its kind has no counterpart in ONNX yet", node.name));
  }

  void write_plain(std::string_view type, const nn::Node& node) {
    add_layer(node, false, [&](const std::string& dst) { return OnnxNode(type, node.name, {src(node)}, dst); });
  }

  void write(const nn::Node& node, const nn::Addition& addition) {
    add_layer(node, addition.relu, [&](const std::string& dst) {
      return OnnxNode("Add", node.name, {src(node, 0), src(node, 1)}, dst);
    });
  }

  /// Whether a batch norm, and nothing else, reads this convolution.
  bool is_folded(const nn::Node& convolution) const {
    return folds_ && readers_[static_cast<std::size_t>(convolution.dst)] == 1 &&
           std::ranges::any_of(source_.nodes(), [&](const nn::Node& node) {
             return node.as<nn::BatchNorm>() != nullptr && node.src.front() == convolution.dst;
           });
  }

  void write(const nn::Node& node, const nn::Convolution& convolution) {
    if (is_folded(node)) {
      folded(node.dst) = &node;
      return;
    }
    add_layer(node, false, [&](const std::string& dst) {
      return OnnxNode("Conv", node.name, inputs(node, src(node)), dst)
          .with_window(convolution.kernel, convolution.stride, convolution.padding);
    });
  }

  void write(const nn::Node& node, const nn::BatchNorm& norm) {
    add_layer(node, norm.relu, [&](const std::string& dst) {
      if (const nn::Node* convolution = folded(node.src.front())) {
        return folded_convolution(*convolution, node, norm.epsilon, dst);
      }
      return OnnxNode("BatchNormalization", node.name, inputs(node, src(node)), dst).with("epsilon", norm.epsilon);
    });
  }

  /// weights · γ/σ, and β + (bias − mean) · γ/σ, in double.
  OnnxNode folded_convolution(const nn::Node& node, const nn::Node& norm, float epsilon, const std::string& dst) {
    const ParameterSlice& slice = weights_.layout().slices()[node.parameters[0]];
    const std::span<const float> gamma = values(weights_, norm.parameters[0]);
    const std::span<const float> beta = values(weights_, norm.parameters[1]);
    const std::span<const float> mean = values(statistics_, norm.statistics[0]);
    const std::span<const float> variance = values(statistics_, norm.statistics[1]);
    std::vector<float> weights(weights_.slice(slice).begin(), weights_.slice(slice).end());
    std::vector<float> bias(gamma.size());
    const std::size_t per_channel = weights.size() / gamma.size();
    for (std::size_t oc = 0; oc < gamma.size(); ++oc) {
      const double scale = gamma[oc] / std::sqrt(double{variance[oc]} + epsilon);
      const double own = node.parameters.size() > 1 ? values(weights_, node.parameters[1])[oc] : 0;
      bias[oc] = static_cast<float>(beta[oc] + (own - mean[oc]) * scale);
      for (float& weight : std::span(weights).subspan(oc * per_channel, per_channel)) {
        weight = static_cast<float>(weight * scale);
      }
    }
    const nn::Convolution& convolution = *node.as<nn::Convolution>();
    const Names names = {src(node), tensor(slice.name, slice.shape.dims(), weights),
                         tensor(node.name + ":bias", {static_cast<std::int64_t>(bias.size())}, bias)};
    return OnnxNode("Conv", node.name, names, dst)
        .with_window(convolution.kernel, convolution.stride, convolution.padding);
  }

  /// Averages count the zeros around the image: those are put there first, as not all readers heed count_include_pad.
  void write(const nn::Node& node, const nn::Pooling& pooling) {
    const bool is_max = pooling.kind == nn::Pooling::Kind::max;
    const std::int64_t padding = pooling.padding;
    std::string image = src(node);
    if (!is_max && padding > 0) {
      const std::string padded = node.name + ":padded";
      const Numbers pads = {0, 0, padding, padding, 0, 0, padding, padding};
      add({"Pad", padded, {image, integers(node.name + ":pads", pads)}, padded});
      image = padded;
    }
    add_layer(node, false, [&](const std::string& dst) {
      return OnnxNode(is_max ? "MaxPool" : "AveragePool", node.name, {image}, dst)
          .with_window(pooling.kernel, pooling.stride, is_max ? padding : 0);
    });
  }

  /// Windows of one size where the output's size divides the image's; else, since ONNX has no such operator, the pixels
  /// of a channel times a matrix.
  void write(const nn::Node& node, const nn::AdaptiveAveragePooling& pooling) {
    const nn::ImageShape& image = source_.shape(node.src.front());
    add_layer(node, false, [&](const std::string& dst) {
      if (image.height == image.width && image.height % pooling.size == 0) {
        const std::int64_t window = image.height / pooling.size;
        return OnnxNode("AveragePool", node.name, {src(node)}, dst).with_window(window, window, 0);
      }
      const std::string flat = node.name + ":flat";
      const std::string means = node.name + ":means";
      const std::int64_t pixels = std::int64_t{image.height} * image.width;
      const std::int64_t windows = std::int64_t{pooling.size} * pooling.size;
      // 0 stands for what was there.
      add({"Reshape", flat, {src(node), integers(flat + "_shape", {0, 0, pixels})}, flat});
      const std::string matrix = tensor(node.name + ":windows", {pixels, windows}, window_means(pooling.size, image));
      add({"MatMul", means, {flat, matrix}, means});
      const std::string shape = integers(node.name + ":shape", {0, 0, pooling.size, pooling.size});
      return OnnxNode("Reshape", node.name, {means, shape}, dst);
    });
  }

  /// The matrix whose column for each window of nn::AdaptiveAveragePooling averages the pixels in it.
  static std::vector<float> window_means(int size, const nn::ImageShape& image) {
    const auto share_of = [&](int window, int pixel, int length) {
      const int first = window * length / size;
      const int end = ((window + 1) * length + size - 1) / size;
      return pixel >= first && pixel < end ? 1 / static_cast<float>(end - first) : 0;
    };
    std::vector<float> matrix;
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        for (int window = 0; window < size * size; ++window) {
          matrix.push_back(share_of(window / size, y, image.height) * share_of(window % size, x, image.width));
        }
      }
    }
    return matrix;
  }

  void write_linear(const nn::Node& node) {
    const std::string flat = node.name + ":flat";
    add(OnnxNode("Flatten", flat, {src(node)}, flat).with("axis", std::int64_t{1}));
    add_layer(node, false, [&](const std::string& dst) {
      return OnnxNode("Gemm", node.name, inputs(node, flat), dst).with("transB", std::int64_t{1});
    });
  }

  const nn::Graph& source_;
  const ParameterArena& weights_;
  const ParameterArena& statistics_;
  const bool folds_;
  const std::vector<int> readers_;
  Names names_;                          ///< by value
  std::vector<const nn::Node*> folded_;  ///< by value: the convolution that waits for its batch norm
  ProtobufMessage graph_;
};

}  // namespace

std::string onnx_model(const ModelCard& card, const nn::Graph& graph, const ParameterArena& weights,
                       const ParameterArena& statistics, bool fold_batch_norm) {
  if (weights.values().size_bytes() + statistics.values().size_bytes() > kMostBytes) {
    throw Error(ErrorKind::input, format("the model has {} parameters; an ONNX file can hold 1 GB of them",
                                         weights.layout().element_count()));
  }
  ProtobufMessage model;
  model.add(kModelIr, kIrVersion);
  model.add(kProducer, std::string_view("dcs3gd-train"));
  model.add(kProducerVersion, std::string_view(kVersion));
  ProtobufMessage opset;
  opset.add(2, kOperatorSet);
  model.add(kOpset, opset);
  model.add(kGraph, OnnxGraph(graph, weights, statistics, fold_batch_norm).write("network", card.settings.classes));
  const auto text = [](const auto& values) {
    return nlohmann::json(values).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  model.add(kMetadata, pair_of("class_names", text(card.class_names)));
  model.add(kMetadata, pair_of("mean", text(card.normalize.mean)));
  model.add(kMetadata, pair_of("std", text(card.normalize.std)));
  model.add(kMetadata, pair_of("photo_resize", std::to_string(card.photo_resize)));
  model.add(kMetadata, pair_of("network", card.name));
  return model.bytes();
}

}  // namespace dcs3gd::app
