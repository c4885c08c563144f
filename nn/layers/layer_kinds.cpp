#include "nn/graph/layer_kinds.h"

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

}  // namespace dcs3gd::nn
