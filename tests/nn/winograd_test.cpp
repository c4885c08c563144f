#include "nn/kernels/winograd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "core/aligned_buffer.h"
#include "core/bf16.h"
#include "core/random_stream.h"
#include "tests/nn/network_test_support.h"
#include "tests/nn/reference/reference_layers.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;

namespace {

struct Case {
  int images, ic, oc, height, width, padding;
};

reference::Tensor random_images(int images, const ImageShape& shape, std::uint64_t seed) {
  reference::Tensor tensor(images, shape);
  RandomStream random(seed, RandomPurpose::initialization, 0);
  for (double& value : tensor.values) value = random.uniform(-1, 1);
  return tensor;
}

int stored_channels(const ImageShape& shape, int lanes) { return (shape.channels + lanes - 1) / lanes * lanes; }

/// Where (n, c, h, w) lies in blocks of lanes.
std::size_t blocked_index(const ImageShape& shape, int lanes, int n, int c, int h, int w) {
  const int block = n * (stored_channels(shape, lanes) / lanes) + c / lanes;
  const int index = ((block * shape.height + h) * shape.width + w) * lanes + c % lanes;
  return static_cast<std::size_t>(index);
}

template <typename Visit>
void for_each_stored(const reference::Tensor& images, int lanes, Visit visit) {
  for (int n = 0; n < images.images; ++n) {
    for (int c = 0; c < stored_channels(images.shape, lanes); ++c) {
      for (int h = 0; h < images.shape.height; ++h) {
        for (int w = 0; w < images.shape.width; ++w) {
          visit(blocked_index(images.shape, lanes, n, c, h, w),
                c < images.shape.channels ? images.at(n, c, h, w) : 0.0);
        }
      }
    }
  }
}

/// Memory that nobody has written: what is read of it shows.
std::vector<float> unwritten(std::size_t count) {
  std::vector<float> values(count);
  std::ranges::fill(values, std::numeric_limits<float>::quiet_NaN());
  return values;
}

std::vector<float> unwritten_images(const ImageShape& shape, int lanes, int images) {
  const int values = images * stored_channels(shape, lanes) * shape.height * shape.width;
  return unwritten(static_cast<std::size_t>(values));
}

std::vector<float> in_blocks(const reference::Tensor& images, int lanes) {
  std::vector<float> blocks = unwritten_images(images.shape, lanes, images.images);
  for_each_stored(images, lanes, [&](std::size_t index, double value) { blocks[index] = static_cast<float>(value); });
  return blocks;
}

/// The padding too.
double distance_from(const reference::Tensor& expected, int lanes, const std::vector<float>& actual) {
  std::vector<double> blocks(actual.size());
  for_each_stored(expected, lanes, [&](std::size_t index, double value) { blocks[index] = value; });
  return test::relative_distance(actual, blocks);
}

std::vector<float> rounded(const std::vector<double>& values) { return {values.begin(), values.end()}; }

std::vector<double> random_values(std::size_t count, std::uint64_t seed) {
  std::vector<double> values(count);
  RandomStream random(seed, RandomPurpose::initialization, 0);
  for (double& value : values) value = static_cast<double>(random.uniform(-1, 1));
  return values;
}

void check_against_reference(const Case& of, int lanes) {
  const Convolution options{.oc = of.oc, .kernel = 3, .padding = of.padding, .bias = true};
  const ImageShape src_shape{of.ic, of.height, of.width};
  const ImageShape dst_shape{of.oc, of.height + 2 * of.padding - 2, of.width + 2 * of.padding - 2};
  const reference::Tensor src = random_images(of.images, src_shape, 1);
  const reference::Tensor diff_dst = random_images(of.images, dst_shape, 2);
  const int weight_count = of.oc * of.ic * 9;
  const std::vector<double> weights = random_values(static_cast<std::size_t>(weight_count), 3);
  const std::vector<double> bias = random_values(static_cast<std::size_t>(of.oc), 4);
  std::vector<double> diff_weights(weights.size());
  std::vector<double> diff_bias(bias.size());
  const reference::LayerPass pass{.training = true,
                                  .sources = {&src},
                                  .dst_shape = dst_shape,
                                  .parameters = {weights, bias},
                                  .diff_parameters = {diff_weights, diff_bias},
                                  .random = RandomStream(0, RandomPurpose::initialization, 0)};
  const reference::Tensor dst = reference::forward(options, pass);
  const reference::Tensor diff_src = reference::backward(options, pass, diff_dst)[0];

  const auto activation = [](const ImageShape& shape) {
    return Winograd::Activation{.channels = static_cast<std::size_t>(shape.channels),
                                .height = static_cast<std::size_t>(shape.height),
                                .width = static_cast<std::size_t>(shape.width)};
  };
  test::for_threads_1_and_2([&](int threads) {
    CAPTURE(threads);
    const Winograd winograd({.lanes = static_cast<std::size_t>(lanes),
                             .images = static_cast<std::size_t>(of.images),
                             .src = activation(src_shape),
                             .dst = activation(dst_shape),
                             .padding = static_cast<std::size_t>(of.padding)},
                            threads);
    const std::vector<float> src_blocks = in_blocks(src, lanes);
    const std::vector<float> diff_dst_blocks = in_blocks(diff_dst, lanes);
    const std::vector<float> weights32 = rounded(weights);

    std::vector<float> found = unwritten_images(dst_shape, lanes, of.images);
    winograd.forward(src_blocks.data(), weights32.data(), rounded(bias).data(), found.data(),
                     unwritten(winograd.forward_scratch()).data());
    CHECK(distance_from(dst, lanes, found) < 2e-5);

    found = unwritten_images(src_shape, lanes, of.images);
    winograd.backward_data(diff_dst_blocks.data(), weights32.data(), found.data(),
                           unwritten(winograd.backward_data_scratch()).data());
    CHECK(distance_from(diff_src, lanes, found) < 2e-5);

    std::vector<float> found_weights = unwritten(weights.size());
    std::vector<float> found_bias = unwritten(bias.size());
    winograd.backward_weights(src_blocks.data(), diff_dst_blocks.data(), found_weights.data(), found_bias.data(),
                              unwritten(winograd.backward_weights_scratch()).data());
    CHECK(test::relative_distance(found_weights, diff_weights) < 2e-5);
    CHECK(test::relative_distance(found_bias, diff_bias) < 2e-5);

    const std::vector<float> first = found_weights;
    winograd.backward_weights(src_blocks.data(), diff_dst_blocks.data(), found_weights.data(), nullptr,
                              unwritten(winograd.backward_weights_scratch()).data());
    CHECK(found_weights == first);
  });
}

}  // namespace

// Sizes that are and are not multiples of a tile, channels that do and do not fill their blocks, and as many tiles as
// one block shared by the threads, a block for each, and several.
TEST_CASE("Winograd's algorithm computes what the reference computes, in all directions") {
  const Case cases[] = {
      {1, 16, 16, 7, 7, 1},   {3, 16, 32, 14, 14, 1}, {1, 64, 16, 28, 28, 1}, {2, 16, 16, 56, 56, 1},
      {2, 20, 37, 13, 13, 1}, {1, 24, 48, 9, 14, 1},  {2, 16, 24, 13, 10, 0}, {1, 17, 16, 5, 6, 2},
      {1, 16, 16, 3, 3, 0},   {1, 16, 16, 1, 1, 1},   {9, 144, 16, 7, 7, 1},  {1, 400, 384, 6, 6, 1},
  };
  for (const Case& of : cases) {
    for (const int lanes : {8, 16}) {
      CAPTURE(of.ic);
      CAPTURE(of.oc);
      CAPTURE(of.height);
      CAPTURE(of.width);
      CAPTURE(of.padding);
      CAPTURE(lanes);
      check_against_reference(of, lanes);
    }
  }
}

TEST_CASE("Winograd's algorithm computes bf16 activations as fp32, and rounds what it writes") {
  const ImageShape shape{37, 13, 13};
  const std::vector<float> weights(rounded(random_values(std::size_t{37} * 37 * 9, 3)));
  std::vector<float> src = in_blocks(random_images(2, shape, 1), 16);
  std::vector<float> diff_dst = in_blocks(random_images(2, shape, 2), 16);
  const auto to_bf16_too = [](std::vector<float>& values) {
    std::vector<Bf16> narrow(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      narrow[i] = to_bf16(values[i]);
      values[i] = to_float(narrow[i]);
    }
    return narrow;
  };
  const std::vector<Bf16> narrow_src = to_bf16_too(src);
  const std::vector<Bf16> narrow_diff_dst = to_bf16_too(diff_dst);
  const Winograd::Activation activation{.channels = 37, .height = 13, .width = 13};
  const auto winograd = [&](Precision precision) {
    return Winograd(
        {.precision = precision, .lanes = 16, .images = 2, .src = activation, .dst = activation, .padding = 1}, 1);
  };
  const Winograd wide = winograd(Precision::fp32);
  const Winograd narrow = winograd(Precision::bf16);
  std::vector<float> scratch = unwritten(std::max(wide.forward_scratch(), wide.backward_weights_scratch()));
  std::vector<float> expected(src.size());
  std::vector<Bf16> found(src.size());
  const auto check_written = [&] {
    std::vector<Bf16> written = to_bf16_too(expected);
    CHECK(std::memcmp(written.data(), found.data(), found.size() * sizeof(Bf16)) == 0);
  };
  wide.forward(src.data(), weights.data(), nullptr, expected.data(), scratch.data());
  narrow.forward(narrow_src.data(), weights.data(), nullptr, found.data(), scratch.data());
  check_written();
  wide.backward_data(diff_dst.data(), weights.data(), expected.data(), scratch.data());
  narrow.backward_data(narrow_diff_dst.data(), weights.data(), found.data(), scratch.data());
  check_written();
  std::vector<float> diff_weights(weights.size());
  std::vector<float> found_weights(weights.size());
  wide.backward_weights(src.data(), diff_dst.data(), diff_weights.data(), nullptr, scratch.data());
  narrow.backward_weights(narrow_src.data(), narrow_diff_dst.data(), found_weights.data(), nullptr, scratch.data());
  CHECK(found_weights == diff_weights);
}
