#include <algorithm>
#include <cmath>
#include <vector>

#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

constexpr const char* kKind = "loss";
constexpr int kTopFive = 5;

/// The class that an image shows; two of them by mixup.
struct Answer {
  std::size_t label;
  std::size_t other_label;
  double share;  ///< of `label`; the rest is other_label's

  std::size_t more_likely() const { return share >= 0.5 ? label : other_label; }
};

Answer answer_of(const BatchView& batch, int image) {
  const auto label = static_cast<std::size_t>(batch.labels[image]);
  if (batch.other_labels == nullptr) return {label, label, 1};
  return {label, static_cast<std::size_t>(batch.other_labels[image]), batch.label_share};
}

struct ImageLoss {
  double loss = 0;
  int better = 0;  ///< classes that are not worse than the answer: a tie never counts as correct
};

/// With p = softmax(logits) and the smoothed target t = (1 − ε)·(λ·onehot(y) + (1 − λ)·onehot(y')) + ε/K:
/// loss = −Σ t log p, d loss / d logit = p − t. Linear in t, so it is the mix of the losses with y and with y'.
ImageLoss image_loss(const float* logits, std::size_t classes, const Answer& answer, double smoothing,
                     double gradient_scale, float* diff_logits) {
  const std::size_t expected = answer.more_likely();
  const double highest = *std::max_element(logits, logits + classes);
  double sum = 0;
  double logit_sum = 0;
  ImageLoss result;
  for (std::size_t k = 0; k < classes; ++k) {
    const double logit = logits[k];
    sum += std::exp(logit - highest);
    logit_sum += logit;
    if (k != expected && logits[k] >= logits[expected]) ++result.better;
  }
  const double log_sum = highest + std::log(sum);
  if (std::isnan(sum)) result.better = kTopFive;  // a NaN among the logits: no answer is correct
  const double uniform_target = smoothing / static_cast<double>(classes);
  const double answer_logit = answer.share * logits[answer.label] + (1 - answer.share) * logits[answer.other_label];
  result.loss = log_sum - (1 - smoothing) * answer_logit - uniform_target * logit_sum;
  if (diff_logits == nullptr) return result;
  for (std::size_t k = 0; k < classes; ++k) {
    const double share = (k == answer.label ? answer.share : 0) + (k == answer.other_label ? 1 - answer.share : 0);
    const double target = uniform_target + (1 - smoothing) * share;
    diff_logits[k] = static_cast<float>(gradient_scale * (std::exp(logits[k] - log_sum) - target));
  }
  return result;
}

}  // namespace

Tensor* plan_loss(Planner& planner, Tensor* logits) {
  Tensor* diff_logits = planner.training() ? planner.activation("diff_logits", logits->desc()) : nullptr;
  std::vector<Tensor*> tensors{logits};
  if (diff_logits != nullptr) tensors.push_back(diff_logits);
  PassContext& context = planner.surroundings().context;
  const double smoothing = planner.training() ? planner.surroundings().options.label_smoothing : 0;
  const std::size_t classes = logits->stored_elements_per_image();
  std::vector<ImageLoss> losses(static_cast<std::size_t>(planner.surroundings().options.batch));
  planner.append("loss", kKind, tensors, [=, &context, losses = std::move(losses)](const ImageRange& images) mutable {
    const BatchView& batch = context.batch;
    const int end = std::min(images.first + images.count, batch.count);
#pragma omp parallel for schedule(static)
    for (int image = images.first; image < end; ++image) {
      losses[static_cast<std::size_t>(image)] =
          image_loss(logits->values({image, 1}), classes, answer_of(batch, image), smoothing, 1.0 / batch.count,
                     diff_logits == nullptr ? nullptr : diff_logits->values({image, 1}));
    }
    // Summed in the order of the images: the same for any number of threads.
    for (int image = images.first; image < end; ++image) {
      const ImageLoss& loss = losses[static_cast<std::size_t>(image)];
      context.result.loss_sum += loss.loss;
      context.result.correct_top1 += loss.better < 1 ? 1 : 0;
      context.result.correct_top5 += loss.better < kTopFive ? 1 : 0;
      ++context.result.images;
    }
  });
  return diff_logits;
}

}  // namespace dcs3gd::nn
