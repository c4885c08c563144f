#include "core/error.h"
#include "core/format.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

/// Pools windows: the request names kind and windows, the neighbours decide the formats.
class PoolingLayer final : public Layer {
 public:
  PoolingLayer(const Node& node, onednn::PoolingRequest request) : node_(node), request_(std::move(request)) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    request_.src = src[0].tensor->desc();
    request_.dst = onednn::any(image_dims(planner.range_images(), planner.surroundings().graph.shape(node_.dst)),
                               src[0].tensor->precision());
    const onednn::Planned planned = onednn::pooling_forward(planner.device(), request_, planner.training());
    Tensor* dst = planner.activation(node_.name, planned.dst);
    std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_SRC, src[0].tensor}, {DNNL_ARG_DST, dst}};
    if (planned.workspace.get_size() > 0) {
      workspace_ = planner.activation(node_.name + " workspace", planned.workspace);
      arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    }
    planner.append(node_.name + " forward", node_.kind->label, planned, std::move(arguments));
    return {dst};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool /*needs_diff_src*/) override {
    request_.dst = diff_dst.tensor->desc();
    const onednn::Planned planned = onednn::pooling_backward(planner.device(), request_);
    Tensor* diff_src = planner.activation(node_.name + " diff_src", planned.src);
    std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_DIFF_DST, diff_dst.tensor},
                                                        {DNNL_ARG_DIFF_SRC, diff_src}};
    if (workspace_ != nullptr) arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    planner.append(node_.name + " backward", node_.kind->label, planned, std::move(arguments));
    return {{diff_src}};
  }

 private:
  const Node& node_;
  onednn::PoolingRequest request_;
  Tensor* workspace_ = nullptr;
};

}  // namespace

void Pooling::read(AttributeReader& reader) {
  reader.choice("method", kind, {{"max", Kind::max}, {"average", Kind::average}});
  reader.integer("kernel", kernel, 1);
  reader.integer("stride", stride, 1);
  reader.integer("padding", padding, 0);
}

LayerOutline Pooling::outline(const std::string& layer, SourceShapes src) const {
  if (padding >= kernel) {
    throw Error(ErrorKind::input, format("layer {}: expected a padding smaller than the {}-pixel window, found {}",
                                         layer, kernel, padding));
  }
  return {.dst = shape_of_windows(layer, src[0], src[0].channels, kernel, stride, padding)};
}

std::unique_ptr<Layer> Pooling::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<PoolingLayer>(
      node, onednn::PoolingRequest{.algorithm = kind == Kind::max ? PoolingAlgorithm::max : PoolingAlgorithm::average,
                                   .kernel = {kernel, kernel},
                                   .strides = {stride, stride},
                                   .padding = {padding, padding}});
}

LayerOutline GlobalAveragePooling::outline(const std::string& /*layer*/, SourceShapes src) const {
  return {.dst = {src[0].channels, 1, 1}};
}

std::unique_ptr<Layer> GlobalAveragePooling::make_layer(const Node& node, const ImageShape& src) const {
  return std::make_unique<PoolingLayer>(node, onednn::PoolingRequest{.algorithm = PoolingAlgorithm::average,
                                                                     .kernel = {src.height, src.width},
                                                                     .strides = {1, 1},
                                                                     .padding = {0, 0}});
}

}  // namespace dcs3gd::nn
