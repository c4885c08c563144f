
#include "nn/plan/convolution.h"

#include "nn/graph/trained_values.h"
#include "nn/layers/weighted_layer.h"

namespace dcs3gd::nn {
namespace {

class ConvolutionLayer final : public WeightedLayer {
 public:
  ConvolutionLayer(const Node& node, const Convolution& options)
      : WeightedLayer(node, options.oc, options.bias), options_(options) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    const Graph& graph = planner.surroundings().graph;
    src_shape_ = graph.shape(node().src[0]);
    set_weight_dims({options_.oc, src_shape_.channels, options_.kernel, options_.kernel});
    const onednn::Dims dst_dims = image_dims(planner.range_images(), graph.shape(node().dst));
    Tensor* from = src[0].tensor;
    const onednn::Descriptor dst = onednn::any(dst_dims, planner.precision_of_dst(node()));
    return {append_forward(planner, choose(planner, Direction::forward, from->desc(), dst), from)};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool needs_diff_src) override {
    const onednn::Descriptor& dst = diff_dst.tensor->desc();
    if (is_trained(planner.surroundings().graph, node())) {
      append_backward_weights(planner, choose(planner, Direction::backward_weights, src_desc(), dst), diff_dst.tensor);
    }
    if (!needs_diff_src) return {{}};
    return {append_backward_data(planner, choose(planner, Direction::backward_data, src_desc(), dst), diff_dst.tensor)};
  }

 private:
  using Direction = ConvolutionDirection;

  /// Keeps the formats the neighbours have if oneDNN has a generated kernel for them (no reorder), else lets it choose.
  /// Choices may have been made for another processor: what cannot be done is computed directly.
  onednn::Planned choose(Planner& planner, Direction direction, const onednn::Descriptor& src,
                         const onednn::Descriptor& dst) const {
    const ConvolutionCase convolution{direction, src_shape_, options_, planner.range_images(), planner.precision()};
    const ConvolutionAlgorithm chosen = planner.surroundings().options.convolutions.of(convolution);
    const int images = planner.training() ? training_range(convolution.images, convolution) : convolution.images;
    const onednn::Descriptor src_of_range = onednn::with_images(src, images);
    const onednn::Descriptor dst_of_range = onednn::with_images(dst, images);
    if (chosen != ConvolutionAlgorithm::direct) {
      if (auto planned = choose_formats(planner, direction, chosen, src_of_range, dst_of_range)) return *planned;
    }
    auto planned = choose_formats(planner, direction, ConvolutionAlgorithm::direct, src_of_range, dst_of_range);
    if (!planned) throw dnnl::error(dnnl_unimplemented, "no kernel for this convolution");
    return *planned;
  }

  /// None if it cannot be done by this algorithm.
  std::optional<onednn::Planned> choose_formats(Planner& planner, Direction direction, ConvolutionAlgorithm algorithm,
                                                const onednn::Descriptor& src, const onednn::Descriptor& dst) const {
    const Precision weights = direction == Direction::backward_weights ? Precision::fp32 : planner.precision();
    onednn::ConvolutionRequest request{.src = onednn::in_precision(src, planner.precision()),
                                       .weights = onednn::any(weight_dims(), weights),
                                       .dst = dst,
                                       .bias = options_.bias,
                                       .stride = options_.stride,
                                       .padding = options_.padding};
    if (direction != Direction::forward) request.dst = onednn::in_precision(dst, planner.precision());
    auto planned = plan_convolution(planner.device(), direction, algorithm, request);
    if (planned && planned->is_generated()) return planned;
    request.src = onednn::any(onednn::dims_of(request.src), onednn::precision_of(request.src));
    request.dst = onednn::any(onednn::dims_of(request.dst), onednn::precision_of(request.dst));
    return plan_convolution(planner.device(), direction, algorithm, request);
  }

  Convolution options_;
  ImageShape src_shape_;
};

}  // namespace

void Convolution::read(AttributeReader& reader) {
  reader.integer("channels", oc, 1);
  reader.integer("kernel", kernel, 1);
  reader.integer("stride", stride, 1);
  reader.integer("padding", padding, 0);
  reader.boolean("bias", bias);
  read_initialization(reader, init);
}

LayerOutline Convolution::outline(const std::string& layer, SourceShapes src) const {
  return weighted_outline(shape_of_windows(layer, src[0], oc, kernel, stride, padding),
                          {oc, src[0].channels, kernel, kernel}, bias, init);
}

std::unique_ptr<Layer> Convolution::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<ConvolutionLayer>(node, *this);
}

}  // namespace dcs3gd::nn
