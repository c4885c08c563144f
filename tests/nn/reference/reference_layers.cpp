#include "tests/nn/reference/reference_layers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace dcs3gd::nn::reference {
namespace {

/// Calls visit(h, w, kh, kw) for each pixel (h, w) of the source that lies under the window of pixel (oh, ow) of the
/// destination; (kh, kw) is its place in the window.
template <typename Options, typename Visit>
void for_each_in_window(const Options& options, const ImageShape& src, int oh, int ow, Visit&& visit) {
  for (int kh = 0; kh < options.kernel; ++kh) {
    const int h = oh * options.stride - options.padding + kh;
    if (h < 0 || h >= src.height) continue;
    for (int kw = 0; kw < options.kernel; ++kw) {
      const int w = ow * options.stride - options.padding + kw;
      if (w < 0 || w >= src.width) continue;
      visit(h, w, kh, kw);
    }
  }
}

std::size_t weight_index(const Convolution& options, int ic_count, int oc, int ic, int kh, int kw) {
  return ((static_cast<std::size_t>(oc) * static_cast<std::size_t>(ic_count) + static_cast<std::size_t>(ic)) *
              static_cast<std::size_t>(options.kernel) +
          static_cast<std::size_t>(kh)) *
             static_cast<std::size_t>(options.kernel) +
         static_cast<std::size_t>(kw);
}

/// The place of the first largest pixel in the window: where the gradient of a maximum goes.
std::size_t largest_in_window(const Pooling& options, const Tensor& src, int n, int c, int oh, int ow) {
  double largest = -std::numeric_limits<double>::infinity();
  std::size_t place = 0;
  for_each_in_window(options, src.shape, oh, ow, [&](int h, int w, int, int) {
    if (src.at(n, c, h, w) > largest) {
      largest = src.at(n, c, h, w);
      place = src.index(n, c, h, w);
    }
  });
  return place;
}

/// Calls body(n, c, h, w, oh, ow, pixels of the window) for all pixels of all windows.
template <typename Body>
void for_each_adaptive_pair(const AdaptiveAveragePooling& options, int images, const ImageShape& shape, Body body) {
  const auto begin = [&](int index, int pixels) {
    return static_cast<int>(std::floor(static_cast<double>(index) * pixels / options.size));
  };
  const auto end = [&](int index, int pixels) {
    return static_cast<int>(std::ceil((static_cast<double>(index) + 1) * pixels / options.size));
  };
  for (int n = 0; n < images; ++n) {
    for (int c = 0; c < shape.channels; ++c) {
      for (int oh = 0; oh < options.size; ++oh) {
        for (int ow = 0; ow < options.size; ++ow) {
          const int rows = end(oh, shape.height) - begin(oh, shape.height);
          const int columns = end(ow, shape.width) - begin(ow, shape.width);
          for (int h = begin(oh, shape.height); h < end(oh, shape.height); ++h) {
            for (int w = begin(ow, shape.width); w < end(ow, shape.width); ++w) {
              body(n, c, h, w, oh, ow, static_cast<double>(rows * columns));
            }
          }
        }
      }
    }
  }
}

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

double window_pixels(const Pooling& options) { return static_cast<double>(options.kernel) * options.kernel; }

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

Tensor forward(const Convolution& options, const LayerPass& pass) {
  const Tensor& src = pass.src();
  const std::span<const double> weights = pass.parameters[0], bias = pass.parameters[1];
  Tensor dst(src.images, pass.dst_shape);
#pragma omp parallel for collapse(2)
  for (int n = 0; n < dst.images; ++n) {
    for (int oc = 0; oc < pass.dst_shape.channels; ++oc) {
      for (int oh = 0; oh < pass.dst_shape.height; ++oh) {
        for (int ow = 0; ow < pass.dst_shape.width; ++ow) {
          double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(oc)];
          for (int ic = 0; ic < src.shape.channels; ++ic) {
            for_each_in_window(options, src.shape, oh, ow, [&](int h, int w, int kh, int kw) {
              sum += src.at(n, ic, h, w) * weights[weight_index(options, src.shape.channels, oc, ic, kh, kw)];
            });
          }
          dst.at(n, oc, oh, ow) = sum;
        }
      }
    }
  }
  return dst;
}

std::vector<Tensor> backward(const Convolution& options, const LayerPass& pass, const Tensor& diff_dst) {
  const Tensor& src = pass.src();
  const std::span<const double> weights = pass.parameters[0];
  const std::span<double> diff_weights = pass.diff_parameters[0], diff_bias = pass.diff_parameters[1];
  Tensor diff_src(src.images, src.shape);
  const int ic_count = src.shape.channels;
#pragma omp parallel for collapse(2)
  for (int n = 0; n < src.images; ++n) {
    for (int ic = 0; ic < ic_count; ++ic) {
      for (int oc = 0; oc < diff_dst.shape.channels; ++oc) {
        for (int oh = 0; oh < diff_dst.shape.height; ++oh) {
          for (int ow = 0; ow < diff_dst.shape.width; ++ow) {
            for_each_in_window(options, src.shape, oh, ow, [&](int h, int w, int kh, int kw) {
              diff_src.at(n, ic, h, w) +=
                  diff_dst.at(n, oc, oh, ow) * weights[weight_index(options, ic_count, oc, ic, kh, kw)];
            });
          }
        }
      }
    }
  }
  std::ranges::fill(diff_weights, 0.0);
  std::ranges::fill(diff_bias, 0.0);
#pragma omp parallel for
  for (int oc = 0; oc < diff_dst.shape.channels; ++oc) {
    for (int n = 0; n < src.images; ++n) {
      for (int oh = 0; oh < diff_dst.shape.height; ++oh) {
        for (int ow = 0; ow < diff_dst.shape.width; ++ow) {
          const double diff = diff_dst.at(n, oc, oh, ow);
          for (int ic = 0; ic < ic_count; ++ic) {
            for_each_in_window(options, src.shape, oh, ow, [&](int h, int w, int kh, int kw) {
              diff_weights[weight_index(options, ic_count, oc, ic, kh, kw)] += diff * src.at(n, ic, h, w);
            });
          }
          if (!diff_bias.empty()) diff_bias[static_cast<std::size_t>(oc)] += diff;
        }
      }
    }
  }
  return {diff_src};
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

Tensor forward(const Pooling& options, const LayerPass& pass) {
  const Tensor& src = pass.src();
  Tensor dst(src.images, pass.dst_shape);
  for (int n = 0; n < dst.images; ++n) {
    for (int c = 0; c < pass.dst_shape.channels; ++c) {
      for (int oh = 0; oh < pass.dst_shape.height; ++oh) {
        for (int ow = 0; ow < pass.dst_shape.width; ++ow) {
          double& value = dst.at(n, c, oh, ow);
          if (options.kind == Pooling::Kind::max) {
            value = src.values[largest_in_window(options, src, n, c, oh, ow)];
            continue;
          }
          for_each_in_window(options, src.shape, oh, ow, [&](int h, int w, int, int) { value += src.at(n, c, h, w); });
          value /= window_pixels(options);
        }
      }
    }
  }
  return dst;
}

std::vector<Tensor> backward(const Pooling& options, const LayerPass& pass, const Tensor& diff_dst) {
  const Tensor& src = pass.src();
  Tensor diff_src(src.images, src.shape);
  for (int n = 0; n < src.images; ++n) {
    for (int c = 0; c < src.shape.channels; ++c) {
      for (int oh = 0; oh < diff_dst.shape.height; ++oh) {
        for (int ow = 0; ow < diff_dst.shape.width; ++ow) {
          const double diff = diff_dst.at(n, c, oh, ow);
          if (options.kind == Pooling::Kind::max) {
            diff_src.values[largest_in_window(options, src, n, c, oh, ow)] += diff;
            continue;
          }
          for_each_in_window(options, src.shape, oh, ow,
                             [&](int h, int w, int, int) { diff_src.at(n, c, h, w) += diff / window_pixels(options); });
        }
      }
    }
  }
  return {diff_src};
}

Tensor forward(const GlobalAveragePooling& /*options*/, const LayerPass& pass) {
  const Tensor& src = pass.src();
  Tensor dst(src.images, {src.shape.channels, 1, 1});
  const double pixels = static_cast<double>(src.shape.height) * src.shape.width;
  for (int n = 0; n < src.images; ++n) {
    for (int c = 0; c < src.shape.channels; ++c) {
      for (int h = 0; h < src.shape.height; ++h) {
        for (int w = 0; w < src.shape.width; ++w) dst.at(n, c, 0, 0) += src.at(n, c, h, w) / pixels;
      }
    }
  }
  return dst;
}

std::vector<Tensor> backward(const GlobalAveragePooling& /*options*/, const LayerPass& pass, const Tensor& diff_dst) {
  const ImageShape& src_shape = pass.src().shape;
  Tensor diff_src(diff_dst.images, src_shape);
  const double pixels = static_cast<double>(src_shape.height) * src_shape.width;
  for (int n = 0; n < diff_dst.images; ++n) {
    for (int c = 0; c < src_shape.channels; ++c) {
      for (int h = 0; h < src_shape.height; ++h) {
        for (int w = 0; w < src_shape.width; ++w) diff_src.at(n, c, h, w) = diff_dst.at(n, c, 0, 0) / pixels;
      }
    }
  }
  return {diff_src};
}

Tensor forward(const AdaptiveAveragePooling& options, const LayerPass& pass) {
  const Tensor& src = pass.src();
  Tensor dst(src.images, {src.shape.channels, options.size, options.size});
  for_each_adaptive_pair(options, src.images, src.shape,
                         [&](int n, int c, int h, int w, int oh, int ow, double pixels) {
                           dst.at(n, c, oh, ow) += src.at(n, c, h, w) / pixels;
                         });
  return dst;
}

std::vector<Tensor> backward(const AdaptiveAveragePooling& options, const LayerPass& pass, const Tensor& diff_dst) {
  const ImageShape& src_shape = pass.src().shape;
  Tensor diff_src(diff_dst.images, src_shape);
  for_each_adaptive_pair(options, diff_dst.images, src_shape,
                         [&](int n, int c, int h, int w, int oh, int ow, double pixels) {
                           diff_src.at(n, c, h, w) += diff_dst.at(n, c, oh, ow) / pixels;
                         });
  return {diff_src};
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
