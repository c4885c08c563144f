#pragma once

#include <cstdint>
#include <vector>

#include "data/framing.h"

/// Image files for tests, written by code.
namespace dcs3gd::data {

/// width × height × channels bytes of smooth colours with some detail, by rows.
std::vector<std::uint8_t> picture(ImageSize size, int channels, std::uint64_t seed);

struct JpegForm {
  int quality = 90;
  bool progressive = false;
  int chroma_sampling = 2;  ///< 2: colours at half the resolution
};

/// 1 channel: grey, 3: colour, 4: CMYK as Adobe writes it.
std::vector<std::uint8_t> jpeg_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels,
                                    const JpegForm& form = {});

/// 8 bits a channel; 1: grey, 3: colour, 4: with transparency.
std::vector<std::uint8_t> png_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels);

}  // namespace dcs3gd::data
