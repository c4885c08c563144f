#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/format.h"
#include "nn/kernels/batch_norm_kernels.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

using batch_norm::DiffDst;
using batch_norm::Images;
using batch_norm::Normalisation;
using batch_norm::PostOps;
using batch_norm::SourceGradient;

onednn::Descriptor floats(std::size_t count) { return onednn::plain({static_cast<std::int64_t>(count)}); }

/// Keeps several arrays of one value per channel in one tensor.
class ChannelArrays {
 public:
  ChannelArrays(Planner& planner, std::string name, const ChannelLayout& layout, std::size_t arrays)
      : size_(batch_norm::channel_array_size(layout)),
        tensor_(planner.temporary(std::move(name), floats(arrays * size_))) {}

  Tensor* tensor() const { return tensor_; }
  float* array(std::size_t index) const { return tensor_->values() + index * size_; }

 private:
  std::size_t size_;
  Tensor* tensor_;
};

/// γ, β and statistics as the kernels want them: 0 for the padding of the layout.
class Coefficients {
 public:
  Coefficients(Planner& planner, const std::string& name, const ChannelLayout& layout, Tensor* gamma, Tensor* beta,
               float epsilon)
      : arrays_(planner, name + " coefficients", layout, kArrays),
        gamma_(gamma),
        beta_(beta),
        channels_(gamma->size_bytes() / sizeof(float)),
        stored_channels_(layout.stored_channels()),
        epsilon_(epsilon) {}

  std::vector<Tensor*> tensors() const { return {arrays_.tensor(), gamma_, beta_}; }
  std::size_t channels() const { return channels_; }
  std::size_t stored_channels() const { return stored_channels_; }
  float* mean() const { return arrays_.array(kMean); }
  float* variance() const { return arrays_.array(kVariance); }
  float inverse_deviation(std::size_t channel) const {
    return static_cast<float>(1 / std::sqrt(static_cast<double>(variance()[channel]) + static_cast<double>(epsilon_)));
  }
  Normalisation normalisation() const {
    return {.mean = mean(), .scale = arrays_.array(kScale), .shift = arrays_.array(kShift)};
  }
  /// Computes scale and shift; mean and variance must be set before.
  void set_normalisation() const {
    for (std::size_t channel = 0; channel < stored_channels_; ++channel) {
      const bool is_padding = channel >= channels_;
      arrays_.array(kScale)[channel] = is_padding ? 0 : gamma_->values()[channel] * inverse_deviation(channel);
      arrays_.array(kShift)[channel] = is_padding ? 0 : beta_->values()[channel];
    }
  }
  float scale(std::size_t channel) const { return arrays_.array(kScale)[channel]; }

 private:
  static constexpr std::size_t kMean = 0;
  static constexpr std::size_t kVariance = 1;
  static constexpr std::size_t kScale = 2;
  static constexpr std::size_t kShift = 3;
  static constexpr std::size_t kArrays = 4;

  ChannelArrays arrays_;
  Tensor* gamma_;
  Tensor* beta_;
  std::size_t channels_;
  std::size_t stored_channels_;
  float epsilon_;
};

/// The address of a tensor; null for none.
void* address(const Tensor* tensor, const ImageRange& range) {
  return tensor == nullptr ? nullptr : tensor->address(range);
}

/// Holds what all kernel calls of the layer share.
struct KernelSettings {
  Precision precision;
  ChannelLayout layout;
  bool relu;

  Images images(int count) const { return {precision, layout, static_cast<std::size_t>(count)}; }
  PostOps post_ops(const Tensor* addend, const ImageRange& range) const {
    return {.addend = address(addend, range), .relu = relu};
  }
};

/// dst = relu(normalised src + addend), the sum and the ReLU if asked. The running statistics themselves belong to the
/// trainer: training writes what they move towards (mean and unbiased variance of the batch), evaluation reads them.
class BatchNormLayer final : public Layer {
 public:
  BatchNormLayer(const Node& node, const BatchNorm& options) : node_(node), options_(options) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    std::optional<ChannelLayout> layout = onednn::channel_layout(src[0].tensor->desc());
    src_ = src[0].tensor;
    if (!layout) {
      src_ = planner.in_format(src_, onednn::plain(onednn::dims_of(src_->desc()), src_->precision()));
      layout = onednn::channel_layout(src_->desc());
    }
    settings_ = {src_->precision(), *layout, options_.relu};
    src_format_ = src[0].tensor->desc();
    if (src.size() > 1) {
      addend_format_ = src[1].tensor->desc();
      addend_ = planner.in_format(src[1].tensor, src_->desc());
    }
    vector_ = onednn::plain({onednn::dims_of(src_->desc())[1]});
    coefficients_.emplace(planner, node_.name, settings_.layout, parameter(planner, 0), parameter(planner, 1),
                          options_.epsilon);
    const bool may_overwrite = !planner.training() && (src[0].may_overwrite || src_ != src[0].tensor);
    Tensor* dst = planner.in_place_or_new(src_, may_overwrite, node_.name);
    if (planner.training()) {
      is_frozen_ = planner.has_frozen_statistics(node_);
      if (is_frozen_) {
        append_running_statistics(planner);
      } else {
        append_statistics(planner);
      }
      append_normalisation(planner, node_.name + " forward", src_, addend_, dst);
      planner.allow_recomputation(dst,
                                  [this](Planner& backward, Tensor* again) {
                                    append_normalisation(
                                        backward, node_.name + " again", backward.kept_or_recomputed(src_),
                                        addend_ == nullptr ? nullptr : backward.kept_or_recomputed(addend_), again);
                                  },
                                  {src_, addend_});
    } else {
      append_running_statistics(planner);
      append_normalisation(planner, node_.name + " evaluation", src_, addend_, dst);
    }
    return {dst};
  }

  bool adds_gradients() const override { return true; }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool needs_diff_src) override {
    Tensor* addend = addend_ == nullptr || !options_.relu ? nullptr : planner.kept_or_recomputed(addend_);
    // The gradient of the normalised value is the addend's too; where it is a sum, it is written once, not added twice.
    const bool is_written = diff_dst.unadded != nullptr || (options_.relu && addend_ != nullptr);
    Flow diff_normalised = diff_dst;
    if (is_written && !diff_dst.may_overwrite) {
      diff_normalised = {planner.activation(node_.name + " diff_normalised", src_->desc())};
    }
    diff_normalised.unadded = nullptr;
    const ChannelArrays sums(planner, node_.name + " gradient sums", settings_.layout, kSums);
    if (is_frozen_ && !is_written) {
      append_frozen_coefficients(planner, sums);
    } else {
      append_reduction(planner, diff_dst, addend, is_written ? diff_normalised.tensor : nullptr, sums);
    }

    std::vector<Flow> diff_srcs{{nullptr}};
    if (needs_diff_src) {
      const bool may_overwrite = diff_normalised.may_overwrite && addend_ == nullptr;
      Tensor* diff_src = planner.in_place_or_new(diff_normalised.tensor, may_overwrite, node_.name + " diff_src");
      append_backward_data(planner, diff_normalised.tensor, options_.relu && !is_written, sums, diff_src);
      diff_srcs[0] = {planner.in_format(diff_src, src_format_)};
    }
    if (addend_ != nullptr) {
      Tensor* diff_addend = planner.in_format(diff_normalised.tensor, addend_format_);
      diff_srcs.push_back({diff_addend, diff_normalised.may_overwrite || diff_addend != diff_normalised.tensor});
    }
    for (const std::size_t index : node_.parameters) planner.append_gradient_ready(index);
    return diff_srcs;
  }

 private:
  static constexpr std::size_t kSum = 0;
  static constexpr std::size_t kSumSrc = 1;
  static constexpr std::size_t kOfGradient = 2;
  static constexpr std::size_t kOfSrc = 3;
  static constexpr std::size_t kConstant = 4;
  static constexpr std::size_t kSums = 5;

  Tensor* parameter(Planner& planner, std::size_t which) const {
    return planner.weights(node_.parameters[which], vector_, vector_);
  }

  std::vector<Tensor*> with_coefficients(std::vector<Tensor*> tensors) const {
    std::erase(tensors, nullptr);
    const std::vector<Tensor*> more = coefficients_->tensors();
    tensors.insert(tensors.end(), more.begin(), more.end());
    return tensors;
  }

  /// What a pass over images leaves for the merging.
  struct SumsOfImages {
    Tensor* tensor;
    std::size_t per_image;

    float* of(const ImageRange& range) const {
      return tensor->values() + static_cast<std::size_t>(range.first) * per_image;
    }
  };
  SumsOfImages sums_of_images(Planner& planner) const {
    const std::size_t per_image = batch_norm::sums_per_image(settings_.layout);
    const auto images = static_cast<std::size_t>(planner.range_images());
    return {planner.temporary(node_.name + " sums of images", floats(images * per_image)), per_image};
  }

  /// Appends the statistics of the batch. PyTorch's convention: the running variance follows the unbiased batch
  /// variance, the normalisation uses the biased one.
  void append_statistics(Planner& planner) {
    planner.require_whole_batch(node_.name);
    const std::size_t values = settings_.images(planner.range_images()).values_per_channel();
    if (values < 2) {
      throw Error(ErrorKind::input,
                  format("batch norm {}: one value per channel has no variance; expected a batch of at least 2 images "
                         "or larger images, found batch 1 with 1x1 pixels here",
                         node_.name));
    }
    ParameterArena& statistics = planner.surroundings().batch_statistics;
    const auto of_batch = [&](std::size_t which) {
      const auto& slices = planner.surroundings().running_statistics.layout().slices();
      return statistics.slice(*statistics.layout().find(slices[node_.statistics[which]].name));
    };
    const SumsOfImages sums = sums_of_images(planner);
    planner
        .append(node_.name + " statistics", node_.kind->label, {src_, sums.tensor},
                [settings = settings_, src = src_, sums](const ImageRange& range) {
                  batch_norm::statistics_of_images(settings.images(range.count), src->address(range), sums.of(range));
                })
        .take_any_images();
    planner.append(node_.name + " merged statistics", node_.kind->label, with_coefficients({sums.tensor}),
                   [settings = settings_, coefficients = *coefficients_, sums, batch_mean = of_batch(0),
                    batch_variance = of_batch(1),
                    unbiased = static_cast<double>(values) / static_cast<double>(values - 1)](const ImageRange& range) {
                     batch_norm::merge_statistics(settings.images(range.count), sums.of(range), coefficients.mean(),
                                                  coefficients.variance());
                     coefficients.set_normalisation();
                     for (std::size_t channel = 0; channel < batch_mean.size(); ++channel) {
                       batch_mean[channel] = coefficients.mean()[channel];
                       batch_variance[channel] =
                           static_cast<float>(unbiased * static_cast<double>(coefficients.variance()[channel]));
                     }
                   });
  }

  void append_running_statistics(Planner& planner) {
    Tensor* mean = planner.running_statistic(node_.statistics[0]);
    Tensor* variance = planner.running_statistic(node_.statistics[1]);
    planner.append(node_.name + " running statistics", node_.kind->label, with_coefficients({mean, variance}),
                   [coefficients = *coefficients_, mean, variance](const ImageRange&) {
                     for (std::size_t channel = 0; channel < coefficients.stored_channels(); ++channel) {
                       const bool is_padding = channel >= coefficients.channels();
                       coefficients.mean()[channel] = is_padding ? 0 : mean->values()[channel];
                       coefficients.variance()[channel] = is_padding ? 0 : variance->values()[channel];
                     }
                     coefficients.set_normalisation();
                   });
  }

  void append_normalisation(Planner& planner, std::string name, Tensor* src, Tensor* addend, Tensor* dst) const {
    planner
        .append(std::move(name), node_.kind->label, with_coefficients({src, addend, dst}),
                [settings = settings_, coefficients = *coefficients_, src, addend, dst](const ImageRange& range) {
                  batch_norm::normalise(settings.images(range.count), src->address(range), coefficients.normalisation(),
                                        settings.post_ops(addend, range), dst->address(range));
                })
        .take_any_images();
  }

  /// Appends the gradients of γ and β, and the coefficients of the source's gradient: with n values of a channel,
  /// deviation σ and src's deviations d,  diff_src = γ/σ (g − Σg/n − d Σ(g d) / (n σ²)); by running statistics, which
  /// do not depend on src, it is γ/σ g.
  void append_reduction(Planner& planner, const Flow& diff_dst, Tensor* addend, Tensor* diff_normalised,
                        const ChannelArrays& sums) {
    Tensor* src = planner.kept_or_recomputed(src_);
    const SumsOfImages of_images = sums_of_images(planner);
    Tensor* diff_gamma = planner.gradient(node_.parameters[0], vector_);
    Tensor* diff_beta = planner.gradient(node_.parameters[1], vector_);
    planner
        .append(node_.name + " backward reduction", node_.kind->label,
                with_coefficients({src, addend, diff_dst.tensor, diff_dst.unadded, diff_normalised, of_images.tensor}),
                [settings = settings_, coefficients = *coefficients_, of_images, src, addend, part = diff_dst.tensor,
                 other_part = diff_dst.unadded, diff_normalised](const ImageRange& range) {
                  batch_norm::reduce_gradient_of_images(settings.images(range.count), src->address(range),
                                                        coefficients.normalisation(), settings.post_ops(addend, range),
                                                        {address(part, range), address(other_part, range)},
                                                        address(diff_normalised, range), of_images.of(range));
                })
        .take_any_images();
    planner.append(node_.name + " merged reduction", node_.kind->label,
                   with_coefficients({of_images.tensor, diff_gamma, diff_beta, sums.tensor()}),
                   [settings = settings_, coefficients = *coefficients_, sums, of_images, diff_gamma, diff_beta,
                    is_frozen = is_frozen_](const ImageRange& range) {
                     const Images images = settings.images(range.count);
                     batch_norm::merge_gradient(images, of_images.of(range), sums.array(kSum), sums.array(kSumSrc));
                     if (is_frozen) return set_frozen_coefficients(coefficients, sums);
                     const double values = static_cast<double>(images.values_per_channel());
                     for (std::size_t channel = 0; channel < coefficients.stored_channels(); ++channel) {
                       const double inverse_deviation = static_cast<double>(coefficients.inverse_deviation(channel));
                       const double scale = static_cast<double>(coefficients.scale(channel));
                       const double sum = static_cast<double>(sums.array(kSum)[channel]);
                       const double sum_src = static_cast<double>(sums.array(kSumSrc)[channel]);
                       sums.array(kOfGradient)[channel] = coefficients.scale(channel);
                       sums.array(kOfSrc)[channel] =
                           static_cast<float>(-scale * inverse_deviation * inverse_deviation * sum_src / values);
                       sums.array(kConstant)[channel] = static_cast<float>(-scale * sum / values);
                       if (channel >= coefficients.channels()) continue;
                       diff_gamma->values()[channel] = static_cast<float>(sum_src * inverse_deviation);
                       diff_beta->values()[channel] = static_cast<float>(sum);
                     }
                   });
  }

  static void set_frozen_coefficients(const Coefficients& coefficients, const ChannelArrays& sums) {
    for (std::size_t channel = 0; channel < coefficients.stored_channels(); ++channel) {
      sums.array(kOfGradient)[channel] = coefficients.scale(channel);
      sums.array(kOfSrc)[channel] = 0;
      sums.array(kConstant)[channel] = 0;
    }
  }

  void append_frozen_coefficients(Planner& planner, const ChannelArrays& sums) const {
    planner.append(
        node_.name + " backward coefficients", node_.kind->label, with_coefficients({sums.tensor()}),
        [coefficients = *coefficients_, sums](const ImageRange&) { set_frozen_coefficients(coefficients, sums); });
  }

  void append_backward_data(Planner& planner, Tensor* diff_dst, bool relu, const ChannelArrays& sums,
                            Tensor* diff_src) {
    Tensor* src = planner.kept_or_recomputed(src_);
    planner
        .append(node_.name + " backward data", node_.kind->label,
                with_coefficients({src, diff_dst, sums.tensor(), diff_src}),
                [settings = settings_, coefficients = *coefficients_, sums, src, diff_dst, relu,
                 diff_src](const ImageRange& range) {
                  batch_norm::backward_data(settings.images(range.count), src->address(range),
                                            coefficients.normalisation(), relu, diff_dst->address(range),
                                            {sums.array(kOfGradient), sums.array(kOfSrc), sums.array(kConstant)},
                                            diff_src->address(range));
                })
        .take_any_images();
  }

  const Node& node_;
  BatchNorm options_;
  KernelSettings settings_{};
  onednn::Descriptor vector_;
  onednn::Descriptor src_format_;
  onednn::Descriptor addend_format_;
  Tensor* src_ = nullptr;
  Tensor* addend_ = nullptr;
  bool is_frozen_ = false;  ///< training normalises by running statistics
  std::optional<Coefficients> coefficients_;
};

}  // namespace

void BatchNorm::read(AttributeReader& reader) {
  reader.boolean("relu", relu);
  reader.number("epsilon", epsilon, 0);
  reader.number("gamma", gamma);
}

LayerOutline BatchNorm::outline(const std::string& /*layer*/, SourceShapes src) const {
  const Shape channels{src[0].channels};
  const auto constant = [](float value) { return Initializer{Initializer::Kind::constant, value}; };
  return {.dst = src[0],
          .tensors = {{"weight", channels, ParameterKind::norm, constant(gamma)},
                      {"bias", channels, ParameterKind::norm, constant(0)},
                      {"running_mean", channels, ParameterKind::statistics, constant(0)},
                      {"running_var", channels, ParameterKind::statistics, constant(1)}}};
}

std::unique_ptr<Layer> BatchNorm::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<BatchNormLayer>(node, *this);
}

}  // namespace dcs3gd::nn
