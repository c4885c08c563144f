#include "core/error.h"
#include "core/format.h"
#include "nn/kernels/elementwise.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

/// The sum overwrites its first source where it may. Backward passes one gradient to both sources,
/// masked in place by dst > 0 if the sum has a ReLU.
class AdditionLayer final : public Layer {
 public:
  AdditionLayer(const Node& node, const Addition& options) : node_(node), options_(options) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    Tensor* src0 = src[0].tensor;
    Tensor* src1 = planner.in_format(src[1].tensor, src0->desc());
    src1_format_ = src[1].tensor->desc();
    Tensor* dst = planner.in_place_or_new(src0, src[0].may_overwrite, node_.name);
    planner.append(node_.name + " forward", node_.kind->label, {src0, src1, dst},
                   [src0, src1, dst, add = options_.relu ? add_relu_forward : add_forward](const ImageRange& images) {
                     add(src0->precision(), src0->address(images), src1->address(images), dst->address(images),
                         src0->stored_elements(images));
                   });
    dst_ = dst;
    return {dst, !needs_dst_later(planner)};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool /*needs_diff_src*/) override {
    Tensor* diff = options_.relu ? append_relu_backward(planner, node_, diff_dst, dst_) : diff_dst.tensor;
    return {{diff, false}, {planner.in_format(diff, src1_format_), false}};
  }

 private:
  bool needs_dst_later(const Planner& planner) const { return options_.relu && planner.training(); }

  const Node& node_;
  Addition options_;
  onednn::Descriptor src1_format_;
  Tensor* dst_ = nullptr;
};

}  // namespace

void Addition::read(AttributeReader& reader) { reader.boolean("relu", relu); }

LayerOutline Addition::outline(const std::string& layer, SourceShapes src) const {
  if (src[0] != src[1]) {
    throw Error(ErrorKind::input, format("layer {}: cannot add {} and {}; both inputs need the same shape", layer,
                                         src[0].to_string(), src[1].to_string()));
  }
  return {.dst = src[0]};
}

std::unique_ptr<Layer> Addition::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<AdditionLayer>(node, *this);
}

}  // namespace dcs3gd::nn
