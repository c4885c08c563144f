#include "nn/graph/layer_kinds.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "nn/graph/layer_options.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

template <typename Options>
LayerKind kind(const char* name, const char* label, std::size_t sources) {
  return {
      .name = name,
      .label = label,
      .sources = sources,
      .defaults = Options{},
      .read = [](LayerOptions& options, AttributeReader& reader) { std::any_cast<Options&>(options).read(reader); },
      .outline = [](const LayerOptions& options, const std::string& layer,
                    SourceShapes src) { return std::any_cast<const Options&>(options).outline(layer, src); },
      .make_layer = [](const Node& node, const ImageShape& src) { return node.as<Options>()->make_layer(node, src); }};
}

}  // namespace

std::span<const LayerKind> layer_kinds() {
  // clang-format off
  static const LayerKind kinds[] = {
      // options                  name in files               label         sources
      kind<Convolution>(            "convolution",              "convolution", 1),
      kind<BatchNorm>(              "batch_norm",               "batch norm",  1),
      kind<Relu>(                   "relu",                     "relu",        1),
      kind<Pooling>(                "pooling",                  "pooling",     1),
      kind<GlobalAveragePooling>(   "global_average_pooling",   "pooling",     1),
      kind<AdaptiveAveragePooling>( "adaptive_average_pooling", "pooling",     1),
      kind<Linear>(                 "linear",                   "linear",      1),
      kind<Dropout>(                "dropout",                  "dropout",     1),
      kind<Addition>(               "addition",                 "addition",    2),
  };
  // clang-format on
  return kinds;
}

LayerOptions read_layer(std::string_view kind, const std::string& layer, const Attributes& attributes) {
  const auto found = std::ranges::find(layer_kinds(), kind, &LayerKind::name);
  if (found == layer_kinds().end()) {
    std::vector<std::string_view> names;
    for (const LayerKind& known : layer_kinds()) names.emplace_back(known.name);
    throw Error(ErrorKind::input, format("layer {}: there is no kind of layer '{}'; expected one of {}", layer, kind,
                                         fmt::join(names, ", ")));
  }
  LayerOptions options = found->defaults;
  AttributeReader reader(layer, attributes);
  found->read(options, reader);
  reader.finish();
  return options;
}

}  // namespace dcs3gd::nn
