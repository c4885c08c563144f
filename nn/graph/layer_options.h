#pragma once

#include <memory>
#include <span>
#include <string>

#include "nn/graph/layer_outline.h"

/// The kinds of layers: what each computes, and its settings. Every kind says by itself
///   read         its attributes in files, and the ranges of its settings
///   outline      the shape of its output, its parameters and statistics; throws Error{input} that names the layer for
///                sources that it cannot take
///   make_layer   how it is planned (layers/layer.h); `src` is the shape of its first source
/// in its file in nn/layers, and has a line in nn/layers/layer_kinds.cpp.
namespace dcs3gd::nn {

class AttributeReader;
class Layer;
struct Node;
using SourceShapes = std::span<const ImageShape>;

/// The first values of a convolution's or linear layer's weights and bias.
enum class Initialization {
  torch,           ///< torch.nn.Conv2d's and Linear's: both uniform ± 1/√fan_in
  kaiming_normal,  ///< weights of deviation √(2/fan_out), which keeps variances through ReLUs; bias 0
  normal,          ///< weights of deviation 0.01; bias 0
};

/// oh = (ih + 2·padding − kernel) / stride + 1, rounded down.
struct Convolution {
  int oc = 0;
  int kernel = 1;
  int stride = 1;
  int padding = 0;
  bool bias = false;
  Initialization init = Initialization::torch;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// dst = γ (src − mean) / sqrt(variance + epsilon) + β per channel, with batch statistics in training and running
/// statistics in evaluation; then ReLU if asked.
struct BatchNorm {
  bool relu = false;
  float epsilon = 1e-5F;
  float gamma = 1;  ///< the first value of γ

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// dst = max(src, 0)
struct Relu {
  void read(AttributeReader& /*reader*/) {}
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// Sizes as of a convolution; the padding is smaller than the kernel.
struct Pooling {
  enum class Kind { max, average };  ///< average counts padded zeros, as torch.nn.AvgPool2d does
  Kind kind = Kind::max;
  int kernel = 2;
  int stride = 2;
  int padding = 0;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// Average over all pixels of a channel: {C, H, W} → {C, 1, 1}.
struct GlobalAveragePooling {
  void read(AttributeReader& /*reader*/) {}
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// Average over size × size windows that cover the image, of which window i begins at pixel ⌊i·h/size⌋ and ends before
/// pixel ⌈(i+1)·h/size⌉: torch.nn.AdaptiveAvgPool2d. They overlap if `size` does not divide h, and repeat pixels if it
/// exceeds h.
struct AdaptiveAveragePooling {
  int size = 7;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// Flattens its input in CHW order; dst = weights · src + bias.
struct Linear {
  int oc = 0;
  bool bias = true;
  Initialization init = Initialization::torch;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// In training zeroes elements with this probability and scales the others by 1 / (1 − probability).
struct Dropout {
  float probability = 0.5F;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

/// src0 + src1 of one shape, then ReLU if asked.
struct Addition {
  bool relu = false;

  void read(AttributeReader& reader);
  LayerOutline outline(const std::string& layer, SourceShapes src) const;
  std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) const;
};

}  // namespace dcs3gd::nn
