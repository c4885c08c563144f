#include "nn/layers/weighted_layer.h"

#include <cmath>
#include <stdexcept>

#include "nn/kernels/elementwise.h"

namespace dcs3gd::nn {
namespace {

struct FirstValues {
  Initializer weights, bias;
};

FirstValues first_values(Initialization init, const Shape& weights) {
  auto fan_out = static_cast<double>(weights[0]);
  auto fan_in = static_cast<double>(weights[1]);
  for (std::size_t axis = 2; axis < weights.rank(); ++axis) {
    fan_out *= static_cast<double>(weights[axis]);
    fan_in *= static_cast<double>(weights[axis]);
  }
  switch (init) {
    case Initialization::torch: {
      // kaiming_uniform(a = √5) for weights and uniform for biases come to the same bound.
      const Initializer uniform{Initializer::Kind::uniform, static_cast<float>(1 / std::sqrt(fan_in))};
      return {uniform, uniform};
    }
    case Initialization::kaiming_normal:
      return {{Initializer::Kind::normal, static_cast<float>(std::sqrt(2 / fan_out))}, {}};
    case Initialization::normal:
      return {{Initializer::Kind::normal, 0.01F}, {}};
  }
  return {};
}

int images_of(const onednn::Planned& planned) { return static_cast<int>(onednn::dims_of(planned.src)[0]); }

/// The format of all images that a primitive takes, at once or range by range.
onednn::Descriptor whole(const Planner& planner, const onednn::Descriptor& desc) {
  return onednn::with_images(onednn::as_images(desc), planner.range_images());
}

}  // namespace

void read_initialization(AttributeReader& reader, Initialization& init) {
  reader.choice("init", init,
                {{"torch", Initialization::torch},
                 {"kaiming_normal", Initialization::kaiming_normal},
                 {"normal", Initialization::normal}});
}

LayerOutline weighted_outline(const ImageShape& dst, Shape weights, bool bias, Initialization init) {
  const FirstValues first = first_values(init, weights);
  LayerOutline outline{.dst = dst};
  outline.tensors.push_back({"weight", std::move(weights), ParameterKind::weight, first.weights});
  if (bias) outline.tensors.push_back({"bias", {dst.channels}, ParameterKind::bias, first.bias});
  return outline;
}

Tensor* WeightedLayer::append_forward(Planner& planner, const onednn::Planned& planned, Tensor* src) {
  original_src_ = src->desc();
  src_ = planner.in_format(src, whole(planner, planned.src));  // a copy is kept, which backward will want too
  weights_ = planner.weights(node_.parameters[0], onednn::plain(weight_dims_), planned.weights);
  Tensor* dst = planner.activation(node_.name, whole(planner, planned.dst));
  std::vector<PrimitiveOperation::Argument> arguments{
      {DNNL_ARG_SRC, src_, planned.src}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, dst, planned.dst}};
  if (bias_) {
    const onednn::Descriptor bias = onednn::plain({oc_});
    arguments.push_back({DNNL_ARG_BIAS, planner.weights(node_.parameters[1], bias, bias)});
  }
  planner.append(node_.name + " forward", node_.kind->label, planned, std::move(arguments)).take(images_of(planned));
  return dst;
}

Tensor* WeightedLayer::diff_dst_in(Planner& planner, Tensor* diff_dst, const onednn::Descriptor& desc) {
  if (diff_dst_ == nullptr || diff_dst_->desc() != desc) diff_dst_ = planner.in_format(diff_dst, desc);
  return diff_dst_;
}

void WeightedLayer::append_backward_weights(Planner& planner, const onednn::Planned& planned, Tensor* diff_dst) {
  planner.require_whole_batch(node_.name + " backward weights");
  Tensor* gradient = planner.gradient(node_.parameters[0], onednn::plain(weight_dims_));
  Tensor* diff_weights =
      planned.weights == gradient->desc() ? gradient : planner.temporary(node_.name + " diff_weights", planned.weights);
  const int images = images_of(planned);
  if (bias_ && images != planner.range_images()) {
    throw std::logic_error(node_.name + ": the bias gradients of ranges are not added up");
  }
  Tensor* of_range = images == planner.range_images()
                         ? diff_weights
                         : planner.temporary(node_.name + " diff_weights of a range", planned.weights);
  std::vector<PrimitiveOperation::Argument> arguments{
      {DNNL_ARG_SRC, planner.in_format(planner.kept_or_recomputed(src_), whole(planner, planned.src)), planned.src},
      {DNNL_ARG_DIFF_DST, diff_dst_in(planner, diff_dst, whole(planner, planned.dst)), planned.dst},
      {DNNL_ARG_DIFF_WEIGHTS, of_range}};
  if (bias_) {
    arguments.push_back({DNNL_ARG_DIFF_BIAS, planner.gradient(node_.parameters[1], onednn::plain({oc_}))});
  }
  planner.append(node_.name + " backward weights", node_.kind->label, planned, std::move(arguments)).take(images);
  if (of_range != diff_weights) {
    planner
        .append(node_.name + " diff_weights sum", "addition", {of_range, diff_weights},
                [of_range, diff_weights](const ImageRange& range) {
                  const std::size_t count = diff_weights->size_bytes() / sizeof(float);
                  if (range.first == 0) {
                    convert(Precision::fp32, of_range->values(), Precision::fp32, diff_weights->values(), count);
                  } else {
                    add_forward(Precision::fp32, diff_weights->values(), of_range->values(), diff_weights->values(),
                                count);
                  }
                })
        .take_any_images();
  }
  if (diff_weights != gradient)
    planner.append_reorder(diff_weights, gradient).run_once(Operation::Once::with_last_range);
  for (const std::size_t parameter : node_.parameters) planner.append_gradient_ready(parameter);
}

Flow WeightedLayer::append_backward_data(Planner& planner, const onednn::Planned& planned, Tensor* diff_dst) {
  Tensor* weights = weights_;
  if (weights->desc() != planned.weights) {
    weights = planner.temporary(node_.name + " weights for data", planned.weights);
    planner.append_reorder(weights_, weights).run_once(Operation::Once::with_first_range);
  }
  Tensor* diff_src = planner.activation(node_.name + " diff_src", whole(planner, planned.src));
  planner
      .append(node_.name + " backward data", node_.kind->label, planned,
              {{DNNL_ARG_DIFF_DST, diff_dst_in(planner, diff_dst, whole(planner, planned.dst)), planned.dst},
               {DNNL_ARG_WEIGHTS, weights},
               {DNNL_ARG_DIFF_SRC, diff_src, planned.src}})
      .take(images_of(planned));
  return {planner.in_format(diff_src, original_src_)};
}

}  // namespace dcs3gd::nn
