#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/parameter_arena.h"
#include "nn/graph/layer_outline.h"

namespace dcs3gd::nn {

struct LayerKind;

/// One of the structs of layer_options.h, which tells the kind of the layer.
using LayerOptions = std::any;

/// An activation of the graph: its input or the output of one layer.
using ValueId = int;

/// One layer of a graph.
struct Node {
  /// The options if they are of this kind, else null.
  template <typename Options>
  const Options* as() const {
    return std::any_cast<Options>(&options);
  }

  std::string name;
  const LayerKind* kind = nullptr;
  LayerOptions options;
  std::vector<ValueId> src;
  ValueId dst = -1;
  std::vector<std::size_t> parameters;  ///< indices into parameter_layout().slices(): weights, bias or γ, β
  std::vector<std::size_t> statistics;  ///< indices into statistics_layout().slices(): running mean, running variance
};

/// A network as a list of layers in the order they run: a description only, without memory or a batch size. Parameters
/// appear in the order of the layers under torchvision's names: `<layer>.weight`, `<layer>.bias`,
/// `<layer>.running_mean`, `<layer>.running_var`.
class Graph {
 public:
  explicit Graph(ImageShape input);

  /// Appends a layer that reads `src` and returns its output. Without a name it is called by its kind and number, such
  /// as "relu3"; one with parameters needs a name. Throws Error{input} that names the layer and what is wrong.
  ValueId add(LayerOptions options, const std::vector<ValueId>& src, std::string name = {});
  ValueId add(LayerOptions options, ValueId src, std::string name = {}) {
    return add(std::move(options), std::vector{src}, std::move(name));
  }

  ValueId input() const { return 0; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const ImageShape& shape(ValueId value) const { return shapes_[static_cast<std::size_t>(value)]; }
  std::size_t value_count() const { return shapes_.size(); }
  /// How many layers read each value.
  std::vector<int> reader_counts() const;
  /// The last layer's output: the logits.
  ValueId output() const { return static_cast<ValueId>(shapes_.size()) - 1; }

  /// Lets `set` decide for each parameter how it is trained: whether it is frozen, its factor and decay. A batch norm
  /// whose parameters are all frozen is frozen itself: it normalises by its running statistics in training too, and
  /// these do not move.
  void set_training(const std::function<void(ParameterSlice&)>& set);

  /// All parameters and statistics, frozen or not.
  std::shared_ptr<const ParameterLayout> parameter_layout() const { return parameters_.layout(); }
  std::shared_ptr<const ParameterLayout> statistics_layout() const { return statistics_.layout(); }

 private:
  friend void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& arena);

  /// The tensors of a flat array to be.
  struct Tensors {
    std::size_t add(const std::string& layer, LayerOutline::Tensor tensor);
    std::shared_ptr<const ParameterLayout> layout() const { return std::make_shared<const ParameterLayout>(slices); }

    std::vector<ParameterSlice> slices;
    std::vector<Initializer> first;  ///< their first values
  };

  std::vector<Node> nodes_;
  std::vector<ImageShape> shapes_;
  Tensors parameters_;
  Tensors statistics_;
};

/// Fills an arena, whose tensors are any of the graph's, with their first values. Each parameter has a random stream of
/// its own: (seed, index of the parameter).
void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& arena);
inline void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& weights, ParameterArena& statistics) {
  initialize(graph, seed, weights);
  initialize(graph, seed, statistics);
}

}  // namespace dcs3gd::nn
