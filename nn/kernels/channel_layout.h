#pragma once

#include <cstddef>

namespace dcs3gd::nn {

/// Where the channels of an activation lie: `width` neighbours side by side, one such row per pixel, then `blocks` of
/// them, then the images. Plain NCHW has rows of one channel; channels-last one block of all channels; oneDNN's blocked
/// formats rows of 8 or 16, the last block padded with channels of zeros.
struct ChannelLayout {
  std::size_t pixels = 0;
  std::size_t width = 0;
  std::size_t blocks = 0;

  /// Channels of an image including padding.
  std::size_t stored_channels() const { return width * blocks; }
  std::size_t stored_elements_per_image() const { return pixels * stored_channels(); }
};

}  // namespace dcs3gd::nn
