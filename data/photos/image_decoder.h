#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/transform/resample.h"

/// The door to the image decoders: JPEG by libjpeg-turbo, PNG by stb_image, told apart by content. Files come from
/// anywhere: whatever they hold, decoding ends in time and memory that the limits below bound, with an image or a
/// reason.
namespace dcs3gd::data {

/// Checked against the header, before memory for pixels is taken.
constexpr std::int64_t kMaxImagePixels = std::int64_t{1} << 26;
/// What a decoder may take for itself: a progressive JPEG is held as coefficients, a PNG as rows and as pixels.
constexpr std::int64_t kMaxDecoderBytes = std::int64_t{1} << 29;
/// Scans of a progressive JPEG; cameras and tools write about ten.
constexpr int kMaxScans = 100;
/// Pixels that all scans together pass over: a few kilobytes may ask for a large image a hundred times.
constexpr std::int64_t kMaxScannedPixels = std::int64_t{1} << 30;

/// Whether files of this extension ("jpg", without the dot, in any case) are taken for images that can be decoded.
bool is_image_extension(std::string_view extension);

/// Reads the size from the header. Returns what is wrong with the file, as decode_image() does.
std::string read_image_size(std::span<const std::uint8_t> file, ImageSize& size);

/// Decodes the part of an image that `crop_rule` shows. JPEG is decoded at 1/2, 1/4 or 1/8 of its size when the crop
/// scales it down by more than that. What is wrong with the file is returned in words, empty if nothing is. A damaged
/// JPEG is bridged where libjpeg can (as Pillow does), but not if its data end before the part that is shown.
/// `image` keeps its memory from call to call; it has no meaning after a failure.
std::string decode_image(std::span<const std::uint8_t> file, const CropRule& crop_rule, DecodedImage& image);

}  // namespace dcs3gd::data
