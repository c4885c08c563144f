#include "nn/kernels/elementwise.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

/// Works in place where it may; backward needs dst only.
class ReluLayer final : public Layer {
 public:
  explicit ReluLayer(const Node& node) : node_(node) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    Tensor* from = src[0].tensor;
    Tensor* to = planner.in_place_or_new(from, src[0].may_overwrite, node_.name);
    planner.append(node_.name + " forward", node_.kind->label, {from, to}, [from, to](const ImageRange& images) {
      relu_forward(from->precision(), from->address(images), to->address(images), from->stored_elements(images));
    });
    dst_ = to;
    return {to, !planner.training()};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool /*needs_diff_src*/) override {
    return {{append_relu_backward(planner, node_, diff_dst, dst_)}};
  }

 private:
  const Node& node_;
  Tensor* dst_ = nullptr;
};

}  // namespace

Tensor* append_relu_backward(Planner& planner, const Node& node, const Flow& diff_dst, Tensor* dst) {
  Tensor* from = diff_dst.tensor;
  Tensor* to = planner.in_place_or_new(from, diff_dst.may_overwrite, node.name + " diff_src");
  dst = planner.kept_or_recomputed(dst);
  planner.append(node.name + " backward", node.kind->label, {from, dst, to}, [from, dst, to](const ImageRange& images) {
    relu_backward(from->precision(), from->address(images), dst->address(images), to->address(images),
                  from->stored_elements(images));
  });
  return to;
}

LayerOutline Relu::outline(const std::string& /*layer*/, SourceShapes src) const { return {.dst = src[0]}; }

std::unique_ptr<Layer> Relu::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<ReluLayer>(node);
}

}  // namespace dcs3gd::nn
