#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/transform/crop.h"

namespace dcs3gd::data {

/// A JPEG file by libjpeg-turbo from bytes as resample() writes them: planes of red, green and blue. Colours are stored
/// at half the resolution; equal planes give a grey file. `quality` is libjpeg's, 1 to 100.
std::vector<std::uint8_t> encode_jpeg(ImageSize size, std::span<const std::uint8_t> planes, int quality);

}  // namespace dcs3gd::data
