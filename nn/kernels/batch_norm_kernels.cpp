#include "nn/kernels/batch_norm_kernels.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "core/bf16.h"
#include "core/simd.h"
#include "nn/kernels/batch_norm_rows.h"

namespace dcs3gd::nn::batch_norm {
namespace {

// The pixels of a strip of channels are taken in chunks. A chunk is rows of 16 channels for the loops of
// batch_norm_rows.h: the memory itself where rows lie so, else a copy in the first-level cache.
constexpr std::size_t kChunkPixels = 128;

template <typename Element>
using Chunk = std::array<Element, kLanes * kChunkPixels>;
using Lanes = std::array<float, kLanes>;
using DoubleLanes = std::array<double, kLanes>;

/// Up to 16 neighbouring channels of an image.
struct Strip {
  std::size_t image = 0;
  std::size_t channel = 0;  ///< the first, as stored
  std::size_t lanes = 0;
  std::size_t offset = 0;  ///< of its first element, from the start of the array
  std::size_t stride = 0;  ///< from pixel to pixel

  bool is_dense() const { return lanes == kLanes && stride == kLanes; }
};

template <typename Body>
void for_each_strip(const Images& images, Body body) {
  const ChannelLayout& layout = images.layout;
  const std::size_t strips_per_block = (layout.width + kLanes - 1) / kLanes;
  const std::size_t strips = layout.blocks * strips_per_block;
#pragma omp parallel
  {
#pragma omp for schedule(static) nowait
    for (std::size_t index = 0; index < images.count * strips; ++index) {
      const std::size_t image = index / strips;
      const std::size_t block = index % strips / strips_per_block;
      const std::size_t first = index % strips_per_block * kLanes;
      body(Strip{.image = image,
                 .channel = block * layout.width + first,
                 .lanes = std::min(kLanes, layout.width - first),
                 .offset = image * layout.stored_elements_per_image() + block * layout.pixels * layout.width + first,
                 .stride = layout.width});
    }
    finish_streaming();
  }
}

/// Calls body(first pixel, pixels).
template <typename Body>
void for_each_chunk(std::size_t pixels, Body body) {
  for (std::size_t first = 0; first < pixels; first += kChunkPixels)
    body(first, std::min(kChunkPixels, pixels - first));
}

/// The coefficients of a channel and those after it.
Normalisation from_channel(const Normalisation& normalisation, std::size_t channel) {
  return {normalisation.mean + channel, normalisation.scale + channel, normalisation.shift + channel};
}
SourceGradient from_channel(const SourceGradient& coefficients, std::size_t channel) {
  return {coefficients.of_gradient + channel, coefficients.of_src + channel, coefficients.constant + channel};
}

/// Whether what is written will have left the caches before the next layer reads it.
bool is_streamed(const Images& images) {
  constexpr std::size_t kLargestCachedBytes = std::size_t{32} << 20;
  return images.count * images.layout.stored_elements_per_image() * element_bytes(images.precision) >
         kLargestCachedBytes;
}

/// Reads or writes a strip of an activation chunk by chunk; null if there is none.
template <typename Element>
class ChunkedStrip {
 public:
  using Value = std::remove_const_t<Element>;
  using Array = std::conditional_t<std::is_const_v<Element>, const void*, void*>;

  ChunkedStrip(const Images& images, const Strip& strip, Array array)
      : strip_(strip),
        first_(array == nullptr ? nullptr : static_cast<Element*>(array) + strip.offset),
        is_streamed_(nn::batch_norm::is_streamed(images)) {}

  /// Rows of a chunk to be read; lanes beyond the strip's are 0.
  const Value* read(std::size_t first_pixel, std::size_t pixels) {
    if (first_ == nullptr || strip_.is_dense()) return at(first_pixel);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      const Element* from = at(first_pixel + pixel);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        buffer_[pixel * kLanes + lane] = lane < strip_.lanes ? from[lane] : Value{};
      }
    }
    return buffer_.data();
  }

  /// Where the rows of a chunk are to be written before write().
  Value* place(std::size_t first_pixel) {
    if (first_ == nullptr) return nullptr;
    return is_written_at_once() ? at(first_pixel) : buffer_.data();
  }
  void write(std::size_t first_pixel, std::size_t pixels) {
    if (first_ == nullptr || is_written_at_once()) return;
    if (strip_.is_dense()) {
      stream(buffer_.data(), pixels * kLanes * sizeof(Value), at(first_pixel));
      return;
    }
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      std::copy_n(buffer_.data() + pixel * kLanes, strip_.lanes, at(first_pixel + pixel));
    }
  }

 private:
  Element* at(std::size_t pixel) const { return first_ == nullptr ? nullptr : first_ + pixel * strip_.stride; }
  bool is_written_at_once() const { return strip_.is_dense() && !is_streamed_; }

  const Strip& strip_;
  Element* first_;
  bool is_streamed_;
  alignas(64) Chunk<Value> buffer_;
};

/// Calls body(first channel, lanes), in parallel, for all stored channels.
template <typename Body>
void for_each_channels(const ChannelLayout& layout, Body body) {
  const std::size_t channels = layout.stored_channels();
#pragma omp parallel for schedule(static)
  for (std::size_t first = 0; first < channels; first += kLanes) body(first, std::min(kLanes, channels - first));
}

}  // namespace

std::size_t channel_array_size(const ChannelLayout& layout) { return layout.stored_channels() + kLanes; }

std::size_t sums_per_image(const ChannelLayout& layout) { return 2 * layout.stored_channels(); }

namespace {

/// The sums of an image: two values per channel.
template <typename Float>
struct SumsOfImage {
  SumsOfImage(const ChannelLayout& layout, Float* sums, std::size_t image)
      : first(sums + image * sums_per_image(layout)), second(first + layout.stored_channels()) {}

  Float* first;
  Float* second;
};

/// Computes the mean of each image and the sum of squared deviations from it, chunk by chunk, each chunk twice while it
/// is in the cache (Chan, Golub & LeVeque 1983). Nothing cancels, whatever the mean.
template <typename Element>
void sum_images(const Images& images, const void* src, float* sums) {
  for_each_strip(images, [&](const Strip& strip) {
    ChunkedStrip<const Element> src_strip(images, strip, src);
    Lanes mean{};
    Lanes squares{};
    for_each_chunk(images.layout.pixels, [&](std::size_t first, std::size_t pixels) {
      const Element* x = src_strip.read(first, pixels);
      Lanes chunk_mean{};
      sum_rows(x, pixels, chunk_mean.data());
      for (float& value : chunk_mean) value /= static_cast<float>(pixels);
      add_squared_deviations(x, pixels, chunk_mean.data(), squares.data());
      const auto before = static_cast<float>(first);
      const auto added = static_cast<float>(pixels);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const float delta = chunk_mean[lane] - mean[lane];
        mean[lane] += delta * (added / (before + added));
        squares[lane] += delta * delta * (before * (added / (before + added)));
      }
    });
    const SumsOfImage of_image(images.layout, sums, strip.image);
    std::copy_n(mean.data(), strip.lanes, of_image.first + strip.channel);
    std::copy_n(squares.data(), strip.lanes, of_image.second + strip.channel);
  });
}

/// Sums values per image and channel over the images, for `lanes` channels whose first value is `values`.
DoubleLanes sum_of_images(const Images& images, const float* values, std::size_t lanes) {
  DoubleLanes sum{};
  for (std::size_t image = 0; image < images.count; ++image) {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      sum[lane] += static_cast<double>(values[image * sums_per_image(images.layout) + lane]);
    }
  }
  return sum;
}

template <typename Element>
void sum_gradients_of_images(const Images& images, const void* src, const Normalisation& normalisation,
                             const PostOps& post_ops, const DiffDst& diff_dst, void* diff_normalised, float* sums) {
  for_each_strip(images, [&](const Strip& strip) {
    ChunkedStrip<const Element> src_strip(images, strip, src);
    ChunkedStrip<const Element> addend(images, strip, post_ops.addend);
    ChunkedStrip<const Element> part(images, strip, diff_dst.part);
    ChunkedStrip<const Element> other_part(images, strip, diff_dst.other_part);
    ChunkedStrip<Element> written(images, strip, diff_normalised);
    const Normalisation of_strip = from_channel(normalisation, strip.channel);
    Lanes sum{};
    Lanes sum_src{};
    for_each_chunk(images.layout.pixels, [&](std::size_t first, std::size_t pixels) {
      Lanes chunk_sum{};
      Lanes chunk_sum_src{};
      reduce_rows(Rows<Element>{src_strip.read(first, pixels), addend.read(first, pixels), pixels}, of_strip,
                  post_ops.relu, {part.read(first, pixels), other_part.read(first, pixels), written.place(first)},
                  chunk_sum.data(), chunk_sum_src.data());
      written.write(first, pixels);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        sum[lane] += chunk_sum[lane];
        sum_src[lane] += chunk_sum_src[lane];
      }
    });
    const SumsOfImage of_image(images.layout, sums, strip.image);
    std::copy_n(sum.data(), strip.lanes, of_image.first + strip.channel);
    std::copy_n(sum_src.data(), strip.lanes, of_image.second + strip.channel);
  });
}

}  // namespace

void statistics_of_images(const Images& images, const void* src, float* sums) {
  with_element(images.precision, [&](auto element) { sum_images<decltype(element)>(images, src, sums); });
}

void merge_statistics(const Images& images, const float* sums, float* mean, float* variance) {
  for_each_channels(images.layout, [&](std::size_t first, std::size_t lanes) {
    DoubleLanes center = sum_of_images(images, sums + first, lanes);
    for (double& value : center) value /= static_cast<double>(images.count);
    DoubleLanes squares{};
    for (std::size_t image = 0; image < images.count; ++image) {
      const SumsOfImage of_image(images.layout, sums, image);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const double delta = static_cast<double>(of_image.first[first + lane]) - center[lane];
        squares[lane] += static_cast<double>(of_image.second[first + lane]) +
                         delta * delta * static_cast<double>(images.layout.pixels);
      }
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      mean[first + lane] = static_cast<float>(center[lane]);
      variance[first + lane] = static_cast<float>(squares[lane] / static_cast<double>(images.values_per_channel()));
    }
  });
}

void normalise(const Images& images, const void* src, const Normalisation& normalisation, const PostOps& post_ops,
               void* dst) {
  with_element(images.precision, [&](auto element) {
    using Element = decltype(element);
    for_each_strip(images, [&](const Strip& strip) {
      ChunkedStrip<const Element> src_strip(images, strip, src);
      ChunkedStrip<const Element> addend(images, strip, post_ops.addend);
      ChunkedStrip<Element> dst_strip(images, strip, dst);
      const Normalisation of_strip = from_channel(normalisation, strip.channel);
      for_each_chunk(images.layout.pixels, [&](std::size_t first, std::size_t pixels) {
        normalise_rows(Rows<Element>{src_strip.read(first, pixels), addend.read(first, pixels), pixels}, of_strip,
                       post_ops.relu, dst_strip.place(first));
        dst_strip.write(first, pixels);
      });
    });
  });
}

void reduce_gradient_of_images(const Images& images, const void* src, const Normalisation& normalisation,
                               const PostOps& post_ops, const DiffDst& diff_dst, void* diff_normalised, float* sums) {
  with_element(images.precision, [&](auto element) {
    sum_gradients_of_images<decltype(element)>(images, src, normalisation, post_ops, diff_dst, diff_normalised, sums);
  });
}

void merge_gradient(const Images& images, const float* sums, float* sum, float* sum_src) {
  const std::size_t channels = images.layout.stored_channels();
  for_each_channels(images.layout, [&](std::size_t first, std::size_t lanes) {
    const DoubleLanes total = sum_of_images(images, sums + first, lanes);
    const DoubleLanes total_src = sum_of_images(images, sums + channels + first, lanes);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      sum[first + lane] = static_cast<float>(total[lane]);
      sum_src[first + lane] = static_cast<float>(total_src[lane]);
    }
  });
}

void backward_data(const Images& images, const void* src, const Normalisation& normalisation, bool relu,
                   const void* diff_dst, const SourceGradient& coefficients, void* diff_src) {
  with_element(images.precision, [&](auto element) {
    using Element = decltype(element);
    for_each_strip(images, [&](const Strip& strip) {
      ChunkedStrip<const Element> src_strip(images, strip, src);
      ChunkedStrip<const Element> diff_dst_strip(images, strip, diff_dst);
      ChunkedStrip<Element> diff_src_strip(images, strip, diff_src);
      const Normalisation of_strip = from_channel(normalisation, strip.channel);
      const SourceGradient coefficients_of_strip = from_channel(coefficients, strip.channel);
      for_each_chunk(images.layout.pixels, [&](std::size_t first, std::size_t pixels) {
        differentiate_rows(Rows<Element>{src_strip.read(first, pixels), nullptr, pixels}, of_strip, relu,
                           diff_dst_strip.read(first, pixels), coefficients_of_strip, diff_src_strip.place(first));
        diff_src_strip.write(first, pixels);
      });
    });
  });
}

}  // namespace dcs3gd::nn::batch_norm
