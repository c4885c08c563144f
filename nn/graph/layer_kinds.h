#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "nn/graph/attributes.h"
#include "nn/graph/graph.h"

namespace dcs3gd::nn {

class Layer;

/// What there is to know of a kind of layer. The functions are those of its options (layer_options.h).
struct LayerKind {
  const char* name;       ///< in files, unique: "batch_norm"
  const char* label;      ///< in reports and tables of times: "batch norm"; several kinds may share one
  std::size_t sources;    ///< values that it reads
  LayerOptions defaults;  ///< of the kind's own struct
  void (*read)(LayerOptions& options, AttributeReader& reader);
  LayerOutline (*outline)(const LayerOptions& options, const std::string& layer, std::span<const ImageShape> src);
  std::unique_ptr<Layer> (*make_layer)(const Node& node, const ImageShape& src);
};

/// The table of all kinds: layers/layer_kinds.cpp.
std::span<const LayerKind> layer_kinds();

/// The options of a layer as a file has it, for Graph::add(): its kind by name, and its attributes. `layer` is its name
/// in messages. Throws Error{input} for an unknown kind, and for attributes as AttributeReader does.
LayerOptions read_layer(std::string_view kind, const std::string& layer, const Attributes& attributes);

}  // namespace dcs3gd::nn
