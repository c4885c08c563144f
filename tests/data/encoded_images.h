#pragma once

#include <cstdint>
#include <vector>

#include "data/transform/crop.h"

/// Image files for tests, written by code.
namespace dcs3gd::data {

/// width × height × channels bytes of smooth colours with some detail, by rows.
std::vector<std::uint8_t> picture(ImageSize size, int channels, std::uint64_t seed);

struct JpegForm {
  int quality = 90;
  bool progressive = false;
  int chroma_sampling = 2;  ///< 2: colours at half the resolution
  int grey_scans = 0;       ///< of a grey file, 2 to 127; 0: as usual
};

/// 1 channel: grey, 3: colour, 4: CMYK as Adobe writes it.
std::vector<std::uint8_t> jpeg_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels,
                                    const JpegForm& form = {});

/// 1: grey, 3: colour, 4: with transparency; 8 or 16 bits a channel.
std::vector<std::uint8_t> png_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels,
                                   int depth = 8);

/// The bytes as gzip packs them.
std::vector<std::uint8_t> gzip(const std::vector<std::uint8_t>& plain);

}  // namespace dcs3gd::data
