#pragma once

#include <cstdint>
#include <vector>

#include "data/transform/resample.h"

namespace dcs3gd::data {

/// Memory that Dataset::read() works in, kept from image to image. One thread at a time.
struct ReadBuffers {
  std::vector<std::uint8_t> file;
  DecodedImage image;
};

}  // namespace dcs3gd::data
