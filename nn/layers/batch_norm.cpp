#include "core/error.h"
#include "core/format.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

constexpr const char* kKind = "batch norm";

/// γ, β and the statistics are plain vectors. The running statistics themselves belong to the trainer: training writes
/// what they move towards (mean and unbiased variance of the batch), evaluation reads them.
class BatchNormLayer final : public Layer {
 public:
  BatchNormLayer(const Node& node, const BatchNorm& options) : node_(node), options_(options) {}

  Handover plan_forward(Planner& planner, const std::vector<Handover>& src) override {
    src_ = src[0].tensor;
    vector_ = onednn::plain({src_->desc().dims()[1]});
    return {planner.training() ? plan_training(planner) : plan_evaluation(planner)};
  }

  std::vector<Handover> plan_backward(Planner& planner, Handover diff_dst, bool /*needs_diff_src*/) override {
    const onednn::Planned planned = onednn::batch_norm_backward(planner.device(), src_->desc(), options_);
    Tensor* diff_src = planner.activation(node_.name + " diff_src", planned.src);
    std::vector<PrimitiveOperation::Argument> arguments{
        {DNNL_ARG_SRC, planner.in_backward(src_)},
        {DNNL_ARG_MEAN, mean_},
        {DNNL_ARG_VARIANCE, variance_},
        {DNNL_ARG_SCALE, gamma(planner)},
        {DNNL_ARG_SHIFT, beta(planner)},
        {DNNL_ARG_DIFF_DST, diff_dst.tensor},
        {DNNL_ARG_DIFF_SRC, diff_src},
        {DNNL_ARG_DIFF_SCALE, planner.gradient(node_.parameters[0], vector_)},
        {DNNL_ARG_DIFF_SHIFT, planner.gradient(node_.parameters[1], vector_)}};
    if (workspace_ != nullptr) arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    planner.append(node_.name + " backward", kKind, planned, std::move(arguments));
    for (const std::size_t parameter : node_.parameters) planner.append_gradient_ready(parameter);
    return {{diff_src}};
  }

 private:
  Tensor* gamma(Planner& planner) const { return planner.weights(node_.parameters[0], vector_, vector_); }
  Tensor* beta(Planner& planner) const { return planner.weights(node_.parameters[1], vector_, vector_); }

  Tensor* plan_training(Planner& planner) {
    planner.require_whole_batch(node_.name);
    const std::int64_t pixels = values_per_channel();
    if (pixels < 2) {
      throw Error(ErrorKind::input,
                  format("batch norm {}: one value per channel has no variance; expected a batch of at least 2 images "
                         "or larger images, found batch 1 with 1x1 pixels here",
                         node_.name));
    }
    const onednn::Planned planned =
        onednn::batch_norm_forward(planner.device(), src_->desc(), options_, onednn::Statistics::batch);
    mean_ = planner.temporary(node_.name + " mean", vector_);
    variance_ = planner.temporary(node_.name + " variance", vector_);
    Tensor* dst = planner.activation(node_.name, planned.dst);
    std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_SRC, src_},
                                                        {DNNL_ARG_MEAN, mean_},
                                                        {DNNL_ARG_VARIANCE, variance_},
                                                        {DNNL_ARG_SCALE, gamma(planner)},
                                                        {DNNL_ARG_SHIFT, beta(planner)},
                                                        {DNNL_ARG_DST, dst}};
    if (planned.workspace.get_size() > 0) {
      workspace_ = planner.temporary(node_.name + " workspace", planned.workspace);
      arguments.push_back({DNNL_ARG_WORKSPACE, workspace_});
    }
    planner.append(node_.name + " forward", kKind, planned, std::move(arguments));
    append_batch_statistics(planner, pixels);
    planner.set_recompute(dst, [this](Planner& backward, Tensor* again) {
      append_normalisation(backward, node_.name + " again", mean_, variance_, again);
    });
    return dst;
  }

  Tensor* plan_evaluation(Planner& planner) {
    Tensor* dst = planner.activation(node_.name, src_->desc());
    append_normalisation(planner, node_.name + " evaluation", planner.running_statistic(node_.statistics[0]),
                         planner.running_statistic(node_.statistics[1]), dst);
    return dst;
  }

  /// dst from statistics that are there already.
  void append_normalisation(Planner& planner, std::string name, Tensor* mean, Tensor* variance, Tensor* dst) const {
    const onednn::Planned planned =
        onednn::batch_norm_forward(planner.device(), src_->desc(), options_, onednn::Statistics::running);
    planner.append(std::move(name), kKind, planned,
                   {{DNNL_ARG_SRC, planner.in_backward(src_)},
                    {DNNL_ARG_MEAN, mean},
                    {DNNL_ARG_VARIANCE, variance},
                    {DNNL_ARG_SCALE, gamma(planner)},
                    {DNNL_ARG_SHIFT, beta(planner)},
                    {DNNL_ARG_DST, dst}});
  }

  std::int64_t values_per_channel() const {
    const onednn::Dims dims = src_->desc().dims();
    std::int64_t values = dims[0];
    for (std::size_t axis = 2; axis < dims.size(); ++axis) values *= dims[axis];
    return values;
  }

  /// PyTorch's convention: the running variance follows the unbiased batch variance, the normalisation uses the biased.
  void append_batch_statistics(Planner& planner, std::int64_t values) {
    ParameterArena& statistics = planner.surroundings().batch_statistics;
    const auto& slices = statistics.layout().slices();
    const std::span<float> batch_mean = statistics.slice(slices[node_.statistics[0]]);
    const std::span<float> batch_variance = statistics.slice(slices[node_.statistics[1]]);
    const float unbiased = static_cast<float>(static_cast<double>(values) / static_cast<double>(values - 1));
    planner.append(node_.name + " statistics", kKind, {mean_, variance_},
                   [batch_mean, batch_variance, unbiased, mean = mean_, variance = variance_](const ImageRange&) {
                     for (std::size_t c = 0; c < batch_mean.size(); ++c) {
                       batch_mean[c] = mean->values()[c];
                       batch_variance[c] = unbiased * variance->values()[c];
                     }
                   });
  }

  const Node& node_;
  BatchNorm options_;
  onednn::Descriptor vector_;
  Tensor* src_ = nullptr;
  Tensor* mean_ = nullptr;
  Tensor* variance_ = nullptr;
  Tensor* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_batch_norm_layer(const Node& node, const BatchNorm& options) {
  return std::make_unique<BatchNormLayer>(node, options);
}

}  // namespace dcs3gd::nn
