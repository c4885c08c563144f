#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

constexpr const char* kKind = "pooling";

class PoolingLayer final : public Layer {
 public:
  PoolingLayer(const Node& node, const Pooling& options) : node_(node), options_(options) {}

  Handover plan_forward(Planner& planner, const std::vector<Handover>& src) override {
    src_format_ = src[0].tensor->desc();
    const ImageShape& out = planner.surroundings().graph.shape(node_.dst);
    const onednn::Planned planned = onednn::pooling_forward(
        planner.device(), src_format_, onednn::any(onednn::image_dims(planner.range_images(), out)), options_,
        planner.training());
    Tensor* dst = planner.activation(node_.name, planned.dst);
    std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_SRC, src[0].tensor}, {DNNL_ARG_DST, dst}};
    if (planned.workspace.get_size() > 0) {
      workspace_ = planner.activation(node_.name + " workspace", planned.workspace);
      arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    }
    planner.append(node_.name + " forward", kKind, planned, std::move(arguments));
    return {dst};
  }

  std::vector<Handover> plan_backward(Planner& planner, Handover diff_dst, bool /*needs_diff_src*/) override {
    const onednn::Planned planned =
        onednn::pooling_backward(planner.device(), src_format_, diff_dst.tensor->desc(), options_);
    Tensor* diff_src = planner.activation(node_.name + " diff_src", planned.src);
    std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_DIFF_DST, diff_dst.tensor},
                                                        {DNNL_ARG_DIFF_SRC, diff_src}};
    if (workspace_ != nullptr) arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    planner.append(node_.name + " backward", kKind, planned, std::move(arguments));
    return {{diff_src}};
  }

 private:
  const Node& node_;
  Pooling options_;
  onednn::Descriptor src_format_;
  Tensor* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_pooling_layer(const Node& node, const Pooling& options) {
  return std::make_unique<PoolingLayer>(node, options);
}

}  // namespace dcs3gd::nn
