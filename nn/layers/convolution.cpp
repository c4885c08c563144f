#include "nn/layers/weighted_layer.h"

namespace dcs3gd::nn {
namespace {

class ConvolutionLayer final : public WeightedLayer {
 public:
  ConvolutionLayer(const Node& node, const Convolution& options)
      : WeightedLayer(node, "convolution", options.oc, options.bias), options_(options) {}

  Handover plan_forward(Planner& planner, const std::vector<Handover>& src) override {
    const Graph& graph = planner.surroundings().graph;
    const ImageShape& in = graph.shape(node().src[0]);
    set_weight_dims({options_.oc, in.channels, options_.kernel, options_.kernel});
    src_any_ = onednn::any(onednn::image_dims(planner.range_images(), in));
    dst_any_ = onednn::any(onednn::image_dims(planner.range_images(), graph.shape(node().dst)));
    Tensor* from = src[0].tensor;
    return {append_forward(planner, choose(planner, onednn::convolution_forward, from->desc(), dst_any_), from)};
  }

  std::vector<Handover> plan_backward(Planner& planner, Handover diff_dst, bool needs_diff_src) override {
    const onednn::Descriptor& dst = diff_dst.tensor->desc();
    append_backward_weights(planner, choose(planner, onednn::convolution_backward_weights, src_desc(), dst),
                            diff_dst.tensor);
    if (!needs_diff_src) return {{}};
    return {append_backward_data(planner, choose(planner, onednn::convolution_backward_data, src_desc(), dst),
                                 diff_dst.tensor)};
  }

 private:
  using PlanFunction = onednn::Planned (*)(const onednn::Device&, const onednn::ConvolutionRequest&);

  /// Keeps the formats the neighbours have if oneDNN has a generated kernel for them (no reorder), else lets it choose.
  onednn::Planned choose(Planner& planner, PlanFunction plan, const onednn::Descriptor& src,
                         const onednn::Descriptor& dst) const {
    onednn::ConvolutionRequest request{.src = src,
                                       .weights = onednn::any(weight_dims()),
                                       .dst = dst,
                                       .bias = options_.bias,
                                       .stride = options_.stride,
                                       .padding = options_.padding};
    try {
      onednn::Planned planned = plan(planner.device(), request);
      if (planned.is_generated()) return planned;
    } catch (const dnnl::error& error) {
      if (error.status != dnnl_unimplemented) throw;
    }
    request.src = src_any_;
    request.dst = dst_any_;
    return plan(planner.device(), request);
  }

  Convolution options_;
  onednn::Descriptor src_any_;
  onednn::Descriptor dst_any_;
};

}  // namespace

std::unique_ptr<Layer> make_convolution_layer(const Node& node, const Convolution& options) {
  return std::make_unique<ConvolutionLayer>(node, options);
}

}  // namespace dcs3gd::nn
