#include "nn/graph/graph.h"

#include <algorithm>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "nn/graph/layer_kinds.h"

namespace dcs3gd::nn {
namespace {

const LayerKind& kind_of(const LayerOptions& options) {
  for (const LayerKind& kind : layer_kinds()) {
    if (kind.defaults.type() == options.type()) return kind;
  }
  throw Error(ErrorKind::failure, "graph: the options of a layer are of no kind in the table");
}

/// Refuses shapes whose count of elements could overflow.
void require_possible_size(const std::string& layer, const Shape& shape) {
  constexpr double kMostElements = 0x1p40;
  double elements = 1;
  for (const std::int64_t extent : shape.dims()) elements *= static_cast<double>(extent);
  if (elements > kMostElements) {
    throw Error(ErrorKind::input, format("layer {}: no machine holds {} numbers", layer, shape.to_string()));
  }
}

}  // namespace

Graph::Graph(ImageShape input) : shapes_{input} {}

ValueId Graph::add(LayerOptions options, const std::vector<ValueId>& src, std::string name) {
  const LayerKind& kind = kind_of(options);
  const bool is_named = !name.empty();
  if (!is_named) name = format("{}{}", kind.label, nodes_.size());
  if (src.size() != kind.sources) {
    throw Error(ErrorKind::input, format("layer {}: expected {} source{}, found {}", name, kind.sources,
                                         kind.sources == 1 ? "" : "s", src.size()));
  }
  std::vector<ImageShape> src_shapes(src.size());
  std::ranges::transform(src, src_shapes.begin(), [&](ValueId value) { return shape(value); });
  AttributeReader ranges(name);
  kind.read(options, ranges);
  LayerOutline outline = kind.outline(options, name, src_shapes);
  require_possible_size(name, {outline.dst.channels, outline.dst.height, outline.dst.width});
  for (const LayerOutline::Tensor& tensor : outline.tensors) require_possible_size(name, tensor.shape);
  if (!is_named && !outline.tensors.empty()) {
    throw Error(ErrorKind::input, format("layer {}: it has parameters, so it needs a name", name));
  }

  Node node{.name = name, .kind = &kind, .options = std::move(options), .src = src, .dst = output() + 1};
  for (LayerOutline::Tensor& tensor : outline.tensors) {
    const bool is_learned = tensor.kind != ParameterKind::statistics;
    (is_learned ? node.parameters : node.statistics)
        .push_back((is_learned ? parameters_ : statistics_).add(name, std::move(tensor)));
  }
  nodes_.push_back(std::move(node));
  shapes_.push_back(outline.dst);
  return output();
}

std::size_t Graph::Tensors::add(const std::string& layer, LayerOutline::Tensor tensor) {
  slices.push_back({.name = layer + "." + tensor.name, .shape = std::move(tensor.shape), .kind = tensor.kind});
  first.push_back(tensor.first);
  return slices.size() - 1;
}

std::vector<int> Graph::reader_counts() const {
  std::vector<int> counts(value_count());
  for (const Node& node : nodes_) {
    for (const ValueId value : node.src) ++counts[static_cast<std::size_t>(value)];
  }
  return counts;
}

void Graph::set_training(const std::function<void(ParameterSlice&)>& set) {
  for (ParameterSlice& slice : parameters_.slices) set(slice);
  for (const Node& node : nodes_) {
    const bool is_frozen = std::ranges::all_of(
        node.parameters, [&](std::size_t parameter) { return parameters_.slices[parameter].is_frozen; });
    for (const std::size_t statistic : node.statistics) statistics_.slices[statistic].is_frozen = is_frozen;
  }
}

void initialize(const Graph& graph, std::uint64_t seed, ParameterArena& arena) {
  for (const Graph::Tensors* tensors : {&graph.parameters_, &graph.statistics_}) {
    for (std::size_t index = 0; index < tensors->slices.size(); ++index) {
      const ParameterSlice* slice = arena.layout().find(tensors->slices[index].name);
      if (slice == nullptr) continue;
      RandomStream random(seed, RandomPurpose::initialization, index);
      const Initializer& first = tensors->first[index];
      for (float& value : arena.slice(*slice)) {
        switch (first.kind) {
          case Initializer::Kind::constant:
            value = first.value;
            break;
          case Initializer::Kind::normal:
            value = first.value * random.normal();
            break;
          case Initializer::Kind::uniform:
            value = random.uniform(-first.value, first.value);
            break;
        }
      }
    }
  }
}

}  // namespace dcs3gd::nn
