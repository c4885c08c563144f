#include "tests/nn/reference/reference_layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dcs3gd::nn::reference {
namespace {

/// max(x, 0)
Tensor rectified(Tensor x) {
  for (double& value : x.values) value = value < 0 ? 0 : value;
  return x;
}

/// The gradient where a ReLU with this dst let values through, else 0.
Tensor masked(const Tensor& dst, Tensor diff_dst) {
  for (std::size_t i = 0; i < dst.values.size(); ++i) {
    if (dst.values[i] <= 0) diff_dst.values[i] = 0;
  }
  return diff_dst;
}

Statistics statistics_of(const Tensor& src) {
  Statistics statistics;
  const double count = static_cast<double>(src.images) * src.shape.height * src.shape.width;
  for (int c = 0; c < src.shape.channels; ++c) {
    const auto mean_over_channel = [&](auto&& term) {
      double sum = 0;
      for (int n = 0; n < src.images; ++n) {
        for (int h = 0; h < src.shape.height; ++h) {
          for (int w = 0; w < src.shape.width; ++w) sum += term(src.at(n, c, h, w));
        }
      }
      return sum / count;
    };
    const double mean = mean_over_channel([](double x) { return x; });
    statistics.mean.push_back(mean);
    statistics.variance.push_back(mean_over_channel([&](double x) { return (x - mean) * (x - mean); }));
  }
  return statistics;
}

Tensor masked_at_random(const Dropout& options, const LayerPass& pass, const Tensor& src) {
  constexpr std::size_t kDraws = std::tuple_size_v<RandomStream::Block>;
  Tensor dst = src;
  const auto elements = static_cast<std::size_t>(src.shape.element_count());
  const std::size_t blocks = (elements + kDraws - 1) / kDraws;
  for (int n = 0; n < src.images; ++n) {
    for (std::size_t e = 0; e < elements; ++e) {
      const std::uint32_t draw =
          pass.random.block(static_cast<std::size_t>(pass.first_image + n) * blocks + e / kDraws)[e % kDraws];
      const bool dropped = draw < std::floor(static_cast<double>(options.probability) * 0x1p32);
      dst.image(n)[e] = dropped ? 0 : src.image(n)[e] / (1 - static_cast<double>(options.probability));
    }
  }
  return dst;
}

}  // namespace

Tensor::Tensor(int image_count, const ImageShape& image_shape)
    : images(image_count),
      shape(image_shape),
      values(static_cast<std::size_t>(image_count) * static_cast<std::size_t>(image_shape.element_count())) {}

std::size_t Tensor::index(int n, int c, int h, int w) const {
  return static_cast<std::size_t>(((std::int64_t{n} * shape.channels + c) * shape.height + h) * shape.width + w);
}

std::span<double> Tensor::image(int n) {
  const auto count = static_cast<std::size_t>(shape.element_count());
  return std::span(values).subspan(static_cast<std::size_t>(n) * count, count);
}

std::span<const double> Tensor::image(int n) const {
  const auto count = static_cast<std::size_t>(shape.element_count());
  return std::span(values).subspan(static_cast<std::size_t>(n) * count, count);
}

Tensor forward(const BatchNorm& options, const LayerPass& pass) {
  const Tensor& src = pass.src();
  if (pass.training) *pass.statistics = statistics_of(src);
  const Statistics& statistics = *pass.statistics;
  const std::span<const double> gamma = pass.parameters[0], beta = pass.parameters[1];
  Tensor dst(src.images, src.shape);
  for (int n = 0; n < src.images; ++n) {
    for (int c = 0; c < src.shape.channels; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const double deviation = std::sqrt(statistics.variance[channel] + static_cast<double>(options.epsilon));
      for (int h = 0; h < src.shape.height; ++h) {
        for (int w = 0; w < src.shape.width; ++w) {
          const double normalised = (src.at(n, c, h, w) - statistics.mean[channel]) / deviation;
          dst.at(n, c, h, w) = gamma[channel] * normalised + beta[channel];
        }
      }
    }
  }
  return options.relu ? rectified(std::move(dst)) : dst;
}

std::vector<Tensor> backward(const BatchNorm& options, const LayerPass& pass, const Tensor& diff_dst) {
  const Tensor& src = pass.src();
  const Statistics& statistics = *pass.statistics;
  const Tensor diff = options.relu ? masked(*pass.dst, diff_dst) : diff_dst;
  Tensor diff_src(src.images, src.shape);
  const double count = static_cast<double>(src.images) * src.shape.height * src.shape.width;
  for (int c = 0; c < src.shape.channels; ++c) {
    const auto channel = static_cast<std::size_t>(c);
    const double deviation = std::sqrt(statistics.variance[channel] + static_cast<double>(options.epsilon));
    const auto normalised = [&](int n, int h, int w) {
      return (src.at(n, c, h, w) - statistics.mean[channel]) / deviation;
    };
    double diff_sum = 0;
    double product_sum = 0;
    for (int n = 0; n < src.images; ++n) {
      for (int h = 0; h < src.shape.height; ++h) {
        for (int w = 0; w < src.shape.width; ++w) {
          diff_sum += diff.at(n, c, h, w);
          product_sum += diff.at(n, c, h, w) * normalised(n, h, w);
        }
      }
    }
    pass.diff_parameters[0][channel] = product_sum;
    pass.diff_parameters[1][channel] = diff_sum;
    for (int n = 0; n < src.images; ++n) {
      for (int h = 0; h < src.shape.height; ++h) {
        for (int w = 0; w < src.shape.width; ++w) {
          diff_src.at(n, c, h, w) =
              pass.parameters[0][channel] / deviation *
              (diff.at(n, c, h, w) - diff_sum / count - normalised(n, h, w) * product_sum / count);
        }
      }
    }
  }
  return {diff_src};
}

Tensor forward(const Relu& /*options*/, const LayerPass& pass) { return rectified(pass.src()); }

std::vector<Tensor> backward(const Relu& /*options*/, const LayerPass& pass, const Tensor& diff_dst) {
  return {masked(*pass.dst, diff_dst)};
}

Tensor forward(const Linear& options, const LayerPass& pass) {
  const Tensor& src = pass.src();
  const std::span<const double> weights = pass.parameters[0], bias = pass.parameters[1];
  Tensor dst(src.images, {options.oc, 1, 1});
  const auto features = static_cast<std::size_t>(src.shape.element_count());
  for (int n = 0; n < src.images; ++n) {
    for (std::size_t oc = 0; oc < static_cast<std::size_t>(options.oc); ++oc) {
      double sum = bias.empty() ? 0 : bias[oc];
      for (std::size_t i = 0; i < features; ++i) sum += weights[oc * features + i] * src.image(n)[i];
      dst.image(n)[oc] = sum;
    }
  }
  return dst;
}

std::vector<Tensor> backward(const Linear& /*options*/, const LayerPass& pass, const Tensor& diff_dst) {
  const Tensor& src = pass.src();
  const std::span<const double> weights = pass.parameters[0];
  const std::span<double> diff_weights = pass.diff_parameters[0], diff_bias = pass.diff_parameters[1];
  Tensor diff_src(src.images, src.shape);
  std::ranges::fill(diff_weights, 0.0);
  std::ranges::fill(diff_bias, 0.0);
  const auto features = static_cast<std::size_t>(src.shape.element_count());
  for (int n = 0; n < src.images; ++n) {
    for (std::size_t oc = 0; oc < static_cast<std::size_t>(diff_dst.shape.channels); ++oc) {
      const double diff = diff_dst.image(n)[oc];
      for (std::size_t i = 0; i < features; ++i) {
        diff_src.image(n)[i] += diff * weights[oc * features + i];
        diff_weights[oc * features + i] += diff * src.image(n)[i];
      }
      if (!diff_bias.empty()) diff_bias[oc] += diff;
    }
  }
  return {diff_src};
}

Tensor forward(const Dropout& options, const LayerPass& pass) {
  return pass.training ? masked_at_random(options, pass, pass.src()) : pass.src();
}

std::vector<Tensor> backward(const Dropout& options, const LayerPass& pass, const Tensor& diff_dst) {
  return {masked_at_random(options, pass, diff_dst)};
}

Tensor forward(const Addition& options, const LayerPass& pass) {
  Tensor dst = pass.src(0);
  for (std::size_t i = 0; i < dst.values.size(); ++i) dst.values[i] += pass.src(1).values[i];
  return options.relu ? rectified(std::move(dst)) : dst;
}

std::vector<Tensor> backward(const Addition& options, const LayerPass& pass, const Tensor& diff_dst) {
  const Tensor diff_src = options.relu ? masked(*pass.dst, diff_dst) : diff_dst;
  return {diff_src, diff_src};
}

Loss cross_entropy(const Tensor& logits, std::span<const std::int32_t> labels, double label_smoothing) {
  Loss loss;
  loss.diff_logits = Tensor(logits.images, logits.shape);
  const int classes = logits.shape.channels;
  for (int n = 0; n < logits.images; ++n) {
    const std::span<const double> x = logits.image(n);
    const auto label = static_cast<std::size_t>(labels[static_cast<std::size_t>(n)]);
    const double highest = *std::ranges::max_element(x);
    double exponentials = 0;
    for (const double logit : x) exponentials += std::exp(logit - highest);
    std::int64_t as_likely = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const double log_probability = x[k] - highest - std::log(exponentials);
      const double target = (k == label ? 1 - label_smoothing : 0) + label_smoothing / classes;
      if (target > 0) loss.sum -= target * log_probability;
      loss.diff_logits.image(n)[k] = (std::exp(log_probability) - target) / logits.images;
      if (k != label && x[k] >= x[label]) ++as_likely;
    }
    if (std::ranges::any_of(x, [](double logit) { return std::isnan(logit); })) continue;
    if (as_likely < 1) ++loss.correct_top1;
    if (as_likely < 5) ++loss.correct_top5;
  }
  return loss;
}

Loss mix(double share, const Loss& loss, const Loss& other) {
  Loss mixed = share >= 0.5 ? loss : other;
  mixed.sum = share * loss.sum + (1 - share) * other.sum;
  for (std::size_t i = 0; i < mixed.diff_logits.values.size(); ++i) {
    mixed.diff_logits.values[i] = share * loss.diff_logits.values[i] + (1 - share) * other.diff_logits.values[i];
  }
  return mixed;
}

}  // namespace dcs3gd::nn::reference
