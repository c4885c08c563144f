#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/parameter_arena.h"

namespace dcs3gd::nn {

/// The shape of one image of an activation, in oneDNN's order; a vector of features is {features, 1, 1}.
struct ImageShape {
  int channels = 0;
  int height = 1;
  int width = 1;

  std::int64_t element_count() const { return std::int64_t{channels} * height * width; }
  std::string to_string() const;
  bool operator==(const ImageShape&) const = default;
};

/// How a parameter gets its first values.
struct Initializer {
  enum class Kind {
    constant,  ///< `value`
    normal,    ///< mean 0, standard deviation `value`
    uniform,   ///< in [−value, value)
  };
  Kind kind = Kind::constant;
  float value = 0;
};

/// Layer settings. Sizes are square: oh = (ih + 2·padding − kernel) / stride + 1, rounded down.
struct Convolution {
  int oc = 0;
  int kernel = 1;
  int stride = 1;
  int padding = 0;
  bool bias = false;
};
/// dst = γ (src − mean) / sqrt(variance + epsilon) + β per channel, with batch statistics in training and running
/// statistics in evaluation; then ReLU if asked.
struct BatchNorm {
  bool relu = false;
  float epsilon = 1e-5F;
};
struct Relu {};
struct Pooling {
  enum class Kind { max, average };  ///< average counts padded zeros, as torch.nn.AvgPool2d does
  Kind kind = Kind::max;
  int kernel = 2;
  int stride = 2;
  int padding = 0;
};
/// Average over all pixels of a channel: {C, H, W} → {C, 1, 1}.
struct GlobalAveragePooling {};
/// Average over size × size windows that cover the image, of which window i begins at pixel ⌊i·h/size⌋ and ends before
/// pixel ⌈(i+1)·h/size⌉: torch.nn.AdaptiveAvgPool2d. They overlap if `size` does not divide h, and repeat pixels if it
/// exceeds h.
struct AdaptiveAveragePooling {
  int size = 7;
};
/// Flattens its input in CHW order; dst = weights · src + bias.
struct Linear {
  int oc = 0;
  bool bias = true;
};
/// In training zeroes elements with this probability and scales the others by 1 / (1 − probability).
struct Dropout {
  float probability = 0.5F;
};
/// src0 + src1, then ReLU if asked.
struct Addition {
  bool relu = false;
};
using LayerOptions = std::variant<Convolution, BatchNorm, Relu, Pooling, GlobalAveragePooling, AdaptiveAveragePooling,
                                  Linear, Dropout, Addition>;

/// An activation of the graph: its input or the output of one layer.
using ValueId = int;

struct Node {
  std::string name;
  LayerOptions options;
  std::vector<ValueId> src;
  ValueId dst = -1;
  std::vector<std::size_t> parameters;  ///< indices into parameter_layout().slices(): weights, bias or γ, β
  std::vector<std::size_t> statistics;  ///< indices into statistics_layout().slices(): running mean, running variance
};

/// A network as a list of layers in the order they run: a description only, without memory or a batch size. Built by
/// the functions below, which check shapes and throw Error{input} that names the layer. Parameters appear in the order
/// of the calls under torchvision's names: `<name>.weight`, `<name>.bias`, `<name>.running_mean`, `<name>.running_var`.
class Graph {
 public:
  explicit Graph(ImageShape input);

  ValueId input() const { return 0; }
  /// The initializers default to torch.nn.Conv2d's and Linear's: uniform ± 1/sqrt(fan_in).
  ValueId convolution(const std::string& name, ValueId src, const Convolution& options);
  ValueId convolution(const std::string& name, ValueId src, const Convolution& options, Initializer weights,
                      Initializer bias);
  ValueId batch_norm(const std::string& name, ValueId src, const BatchNorm& options, float gamma = 1);
  ValueId relu(ValueId src);
  ValueId pooling(ValueId src, const Pooling& options);
  ValueId global_average_pooling(ValueId src);
  ValueId adaptive_average_pooling(ValueId src, const AdaptiveAveragePooling& options);
  ValueId linear(const std::string& name, ValueId src, const Linear& options);
  ValueId linear(const std::string& name, ValueId src, const Linear& options, Initializer weights, Initializer bias);
  ValueId dropout(ValueId src, const Dropout& options);
  ValueId addition(ValueId src0, ValueId src1, const Addition& options);

  const std::vector<Node>& nodes() const { return nodes_; }
  const ImageShape& shape(ValueId value) const { return shapes_[static_cast<std::size_t>(value)]; }
  std::size_t value_count() const { return shapes_.size(); }
  /// The last layer's output: the logits.
  ValueId output() const { return static_cast<ValueId>(shapes_.size()) - 1; }

  std::shared_ptr<const ParameterLayout> parameter_layout() const;
  std::shared_ptr<const ParameterLayout> statistics_layout() const;
  const std::vector<Initializer>& initializers() const { return initializers_; }

 private:
  ValueId append(Node node, ImageShape dst);
  std::size_t add_parameter(std::string name, Shape shape, ParameterKind kind, Initializer initializer);
  std::size_t add_statistic(std::string name, int channels);
  std::string unnamed(const char* kind) const;

  std::vector<Node> nodes_;
  std::vector<ImageShape> shapes_;
  std::vector<ParameterSlice> parameters_;
  std::vector<Initializer> initializers_;
  std::vector<ParameterSlice> statistics_;
};

/// "convolution", "batch norm", …
const char* layer_kind(const LayerOptions& options);

/// Fills the weights with the graph's initial values and the statistics with mean 0 and variance 1. Each parameter has
/// a random stream of its own: (seed, index of the parameter).
void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& weights, ParameterArena& statistics);

}  // namespace dcs3gd::nn
