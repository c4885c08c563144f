#include "nn/graph/trained_values.h"
#include "nn/layers/weighted_layer.h"

namespace dcs3gd::nn {
namespace {

/// Computes src · weights + bias. Weights are OI in the arena. Where the source has pixels they are seen as OIHW, the
/// same values in the same order, so that a blocked source need not be flattened.
class LinearLayer final : public WeightedLayer {
 public:
  LinearLayer(const Node& node, const Linear& options)
      : WeightedLayer(node, options.oc, options.bias), options_(options) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    const ImageShape& in = planner.surroundings().graph.shape(node().src[0]);
    const bool has_pixels = in.height * in.width > 1;
    onednn::Dims src_dims = image_dims(planner.range_images(), in);
    if (!has_pixels) src_dims.resize(2);
    onednn::Dims weight_dims = src_dims;
    weight_dims[0] = options_.oc;
    set_weight_dims(weight_dims);
    const Precision precision = planner.precision();
    request_ = {.src = has_pixels ? onednn::any(src_dims, precision) : onednn::plain(src_dims, precision),
                .weights = onednn::any(weight_dims, precision),
                .dst = onednn::plain({src_dims[0], options_.oc}, planner.precision_of_dst(node())),
                .bias = options_.bias};
    return {append_forward(planner, onednn::linear(planner.device(), ConvolutionDirection::forward, request_),
                           src[0].tensor)};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool needs_diff_src) override {
    request_.dst = onednn::plain(onednn::dims_of(request_.dst), planner.precision());
    onednn::LinearRequest weights_request = request_;
    weights_request.weights = onednn::any(weight_dims(), Precision::fp32);
    if (is_trained(planner.surroundings().graph, node())) {
      append_backward_weights(planner,
                              onednn::linear(planner.device(), ConvolutionDirection::backward_weights, weights_request),
                              diff_dst.tensor);
    }
    if (!needs_diff_src) return {{}};
    return {append_backward_data(
        planner, onednn::linear(planner.device(), ConvolutionDirection::backward_data, request_), diff_dst.tensor)};
  }

 private:
  Linear options_;
  onednn::LinearRequest request_;
};

}  // namespace

void Linear::read(AttributeReader& reader) {
  reader.integer("features", oc, 1);
  reader.boolean("bias", bias);
  read_initialization(reader, init);
}

LayerOutline Linear::outline(const std::string& /*layer*/, SourceShapes src) const {
  return weighted_outline({oc, 1, 1}, {oc, src[0].element_count()}, bias, init);
}

std::unique_ptr<Layer> Linear::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<LinearLayer>(node, *this);
}

}  // namespace dcs3gd::nn
