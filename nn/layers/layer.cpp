#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

struct Make {
  const Node& node;
  const ImageShape& src;

  using Result = std::unique_ptr<Layer>;
  Result operator()(const Convolution& options) const { return make_convolution_layer(node, options); }
  Result operator()(const BatchNorm& options) const { return make_batch_norm_layer(node, options); }
  Result operator()(const Relu&) const { return make_relu_layer(node); }
  Result operator()(const Pooling& options) const { return make_pooling_layer(node, options); }
  Result operator()(const GlobalAveragePooling&) const { return make_global_average_pooling_layer(node, src); }
  Result operator()(const AdaptiveAveragePooling& options) const {
    return make_adaptive_average_pooling_layer(node, src, options);
  }
  Result operator()(const Linear& options) const { return make_linear_layer(node, options); }
  Result operator()(const Dropout& options) const { return make_dropout_layer(node, options); }
  Result operator()(const Addition& options) const { return make_addition_layer(node, options); }
};

}  // namespace

std::unique_ptr<Layer> make_layer(const Node& node, const ImageShape& src) {
  return std::visit(Make{node, src}, node.options);
}

}  // namespace dcs3gd::nn
