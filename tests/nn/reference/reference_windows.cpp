#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/nn/reference/reference_layers.h"

/// The layers that look at windows of an image: convolution and pooling.
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

double window_pixels(const Pooling& options) { return static_cast<double>(options.kernel) * options.kernel; }

}  // namespace

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

}  // namespace dcs3gd::nn::reference
