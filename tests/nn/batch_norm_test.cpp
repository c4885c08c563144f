#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "core/aligned_buffer.h"
#include "core/bf16.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "nn/kernels/batch_norm_kernels.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::batch_norm;

// The engine's tests compare whole networks with the reference, in the formats that oneDNN chooses on this processor
// and with small images. Here: every layout, and arrays that are written past the caches.

namespace {

struct Case {
  ChannelLayout layout;
  std::size_t channels;  ///< without padding
  std::size_t images;
  Precision precision;

  std::string name() const {
    return format("{} channels in {} blocks of {}, {} pixels, {} images, {}", channels, layout.blocks, layout.width,
                  layout.pixels, images, precision == Precision::bf16 ? "bf16" : "fp32");
  }
  Images all() const { return {precision, layout, images}; }
  std::size_t elements() const { return images * layout.stored_elements_per_image(); }
  std::size_t index(std::size_t image, std::size_t channel, std::size_t pixel) const {
    return image * layout.stored_elements_per_image() +
           (channel / layout.width * layout.pixels + pixel) * layout.width + channel % layout.width;
  }
};

/// An activation as the kernels take it, and its values as they read them.
class Activation {
 public:
  Activation(const Case& form, std::uint64_t seed, float mean) : form_(form), memory_(form.elements() * sizeof(float)) {
    RandomStream random(seed, RandomPurpose::initialization, 0);
    for (std::size_t image = 0; image < form.images; ++image) {
      for (std::size_t channel = 0; channel < form.channels; ++channel) {
        for (std::size_t pixel = 0; pixel < form.layout.pixels; ++pixel) {
          set(form.index(image, channel, pixel), mean + random.uniform(-1, 1));
        }
      }
    }
  }

  void* data() { return memory_.data(); }
  double at(std::size_t index) const {
    return form_.precision == Precision::bf16
               ? static_cast<double>(to_float(reinterpret_cast<const Bf16*>(memory_.data())[index]))
               : static_cast<double>(reinterpret_cast<const float*>(memory_.data())[index]);
  }

 private:
  void set(std::size_t index, float value) {
    if (form_.precision == Precision::bf16) {
      reinterpret_cast<Bf16*>(memory_.data())[index] = to_bf16(value);
    } else {
      reinterpret_cast<float*>(memory_.data())[index] = value;
    }
  }

  const Case& form_;
  AlignedBuffer<std::byte> memory_;
};

/// The worst |actual − expected| of two functions of an element's index, where expected also gets the channel; padding
/// must be 0.
template <typename Expected>
double worst_difference(const Case& form, const Activation& actual, Expected expected) {
  double worst = 0;
  for (std::size_t image = 0; image < form.images; ++image) {
    for (std::size_t channel = 0; channel < form.layout.stored_channels(); ++channel) {
      for (std::size_t pixel = 0; pixel < form.layout.pixels; ++pixel) {
        const std::size_t index = form.index(image, channel, pixel);
        const double wanted = channel < form.channels ? expected(index, channel) : 0;
        worst = std::max(worst, std::abs(actual.at(index) - wanted));
      }
    }
  }
  return worst;
}

void check(const Case& form) {
  CAPTURE(form.name());
  const Images images = form.all();
  const double rounding = form.precision == Precision::bf16 ? 0x1p-7 : 1e-5;  // of values below 4
  Activation src(form, 1, 0.5F);
  Activation addend(form, 2, 0);
  Activation part(form, 3, 0);
  Activation other_part(form, 4, 0);
  Activation dst(form, 5, 0);
  const std::size_t size = channel_array_size(form.layout);
  std::vector<float> mean(size);
  std::vector<float> variance(size);
  std::vector<float> scale(size);
  std::vector<float> shift(size);
  std::vector<float> sums(form.images * sums_per_image(form.layout));

  statistics_of_images(images, src.data(), sums.data());
  merge_statistics(images, sums.data(), mean.data(), variance.data());
  const auto values = static_cast<double>(images.values_per_channel());
  for (std::size_t channel = 0; channel < form.channels; ++channel) {
    double sum = 0;
    double squares = 0;
    const auto each = [&](auto body) {
      for (std::size_t image = 0; image < form.images; ++image) {
        for (std::size_t pixel = 0; pixel < form.layout.pixels; ++pixel) {
          body(src.at(form.index(image, channel, pixel)));
        }
      }
    };
    each([&](double value) { sum += value; });
    each([&](double value) { squares += (value - sum / values) * (value - sum / values); });
    CHECK(static_cast<double>(mean[channel]) == doctest::Approx(sum / values).epsilon(1e-5));
    CHECK(static_cast<double>(variance[channel]) == doctest::Approx(squares / values).epsilon(1e-5));
    scale[channel] = 1.5F / std::sqrt(variance[channel] + 0.1F);
    shift[channel] = 0.25F * static_cast<float>(channel % 3) - 0.25F;
  }

  const Normalisation normalisation{mean.data(), scale.data(), shift.data()};
  const auto deviation = [&](std::size_t index, std::size_t channel) {
    return src.at(index) - static_cast<double>(mean[channel]);
  };
  const auto before_relu = [&](std::size_t index, std::size_t channel) {
    return deviation(index, channel) * static_cast<double>(scale[channel]) + static_cast<double>(shift[channel]) +
           addend.at(index);
  };
  normalise(images, src.data(), normalisation, {.addend = addend.data(), .relu = true}, dst.data());
  CHECK(worst_difference(form, dst, [&](std::size_t index, std::size_t channel) {
          return std::max(0.0, before_relu(index, channel));
        }) < 4 * rounding);

  std::vector<float> sum(size);
  std::vector<float> sum_src(size);
  Activation masked(form, 6, 0);
  reduce_gradient_of_images(images, src.data(), normalisation, {.addend = addend.data(), .relu = true},
                            {.part = part.data(), .other_part = other_part.data()}, masked.data(), sums.data());
  merge_gradient(images, sums.data(), sum.data(), sum_src.data());
  // Where the value before the ReLU is all but 0, rounding decides.
  const auto gradient = [&](std::size_t index, std::size_t channel) {
    if (std::abs(before_relu(index, channel)) < 1e-5) return masked.at(index);
    return before_relu(index, channel) <= 0 ? 0.0 : part.at(index) + other_part.at(index);
  };
  CHECK(worst_difference(form, masked, gradient) < 2 * rounding);
  for (std::size_t channel = 0; channel < form.channels; ++channel) {
    double expected = 0;
    double expected_src = 0;
    double size_of_sum = 0;
    for (std::size_t image = 0; image < form.images; ++image) {
      for (std::size_t pixel = 0; pixel < form.layout.pixels; ++pixel) {
        const std::size_t index = form.index(image, channel, pixel);
        expected += gradient(index, channel);
        expected_src += gradient(index, channel) * deviation(index, channel);
        size_of_sum += std::abs(gradient(index, channel));
      }
    }
    // Sums are of the gradients before they are rounded to be written.
    CHECK(std::abs(static_cast<double>(sum[channel]) - expected) <= rounding * size_of_sum + 1e-6);
    CHECK(std::abs(static_cast<double>(sum_src[channel]) - expected_src) <= 2 * rounding * size_of_sum + 1e-6);
  }

  // In place.
  std::vector<float> of_src(size);
  for (std::size_t channel = 0; channel < form.channels; ++channel) of_src[channel] = 0.5F;
  backward_data(images, src.data(), normalisation, true, part.data(), {scale.data(), of_src.data(), shift.data()},
                dst.data());
  CHECK(worst_difference(form, dst, [&](std::size_t index, std::size_t channel) {
          const double normalised = before_relu(index, channel) - addend.at(index);
          if (std::abs(normalised) < 1e-5) return dst.at(index);
          return static_cast<double>(scale[channel]) * (normalised <= 0 ? 0 : part.at(index)) +
                 0.5 * deviation(index, channel) + static_cast<double>(shift[channel]);
        }) < 4 * rounding);
  Activation in_place(form, 3, 0);
  backward_data(images, src.data(), normalisation, true, in_place.data(), {scale.data(), of_src.data(), shift.data()},
                in_place.data());
  CHECK(std::memcmp(in_place.data(), dst.data(), form.elements() * element_bytes(form.precision)) == 0);
}

}  // namespace

TEST_CASE("batch norm's kernels compute what their formulas say in every layout") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const std::size_t pixels : {1, 3, 128, 301}) {
      for (const std::size_t channels : {1, 8, 17, 48}) {
        for (const std::size_t width : {std::size_t{1}, channels, std::size_t{8}, std::size_t{16}}) {
          check({{pixels, width, (channels + width - 1) / width}, channels, 3, precision});
        }
      }
    }
  }
}

TEST_CASE("batch norm's kernels write large arrays past the caches") {
  check({{400 * 401, 16, 1}, 16, 4, Precision::fp32});
  check({{400 * 401, 16, 1}, 16, 8, Precision::bf16});
}

TEST_CASE("statistics of values far from 0 do not cancel") {
  const Case form{{1000, 16, 1}, 16, 2, Precision::fp32};
  Activation src(form, 1, 1000);
  std::vector<float> mean(channel_array_size(form.layout));
  std::vector<float> variance(mean.size());
  std::vector<float> sums(form.images * sums_per_image(form.layout));
  statistics_of_images(form.all(), src.data(), sums.data());
  merge_statistics(form.all(), sums.data(), mean.data(), variance.data());
  for (std::size_t channel = 0; channel < form.channels; ++channel) {
    CHECK(static_cast<double>(mean[channel]) == doctest::Approx(1000).epsilon(1e-4));
    CHECK(static_cast<double>(variance[channel]) == doctest::Approx(1.0 / 3).epsilon(0.05));
  }
}
