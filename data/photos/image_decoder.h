#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/transform/framing.h"

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

/// Where a rectangle of an image lies within decoded pixels; not whole when these are scaled.
struct Area {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

/// Bytes without meaning behind the last pixel, so that vectors may be read whole.
constexpr std::size_t kPixelPadding = 16;

/// The decoded pixels around what a frame shows. Grey comes as equal R, G and B, CMYK as RGB, transparency is dropped.
struct DecodedImage {
  ImageSize file_size;               ///< of the image in the file
  Frame frame;                       ///< chosen for it
  int width = 0;                     ///< of the pixels held
  int height = 0;                    ///< of the pixels held
  Area source;                       ///< frame.source within them
  std::vector<std::uint8_t> pixels;  ///< height × width × 4: R, G, B and a byte without meaning; then the padding

  /// Makes room for width × height pixels.
  void allocate();
};

/// Whether files of this extension ("jpg", without the dot, in any case) are taken for images that can be decoded.
bool is_image_extension(std::string_view extension);

/// Reads the size from the header. Returns what is wrong with the file, as decode_image() does.
std::string read_image_size(std::span<const std::uint8_t> file, ImageSize& size);

/// Decodes the part of an image that `framing` shows. JPEG is decoded at 1/2, 1/4 or 1/8 of its size when the frame
/// scales it down by more than that. What is wrong with the file is returned in words, empty if nothing is. A damaged
/// JPEG is bridged where libjpeg can (as Pillow does), but not if its data end before the part that is shown.
/// `image` keeps its memory from call to call; it has no meaning after a failure.
std::string decode_image(std::span<const std::uint8_t> file, const Framing& framing, DecodedImage& image);

}  // namespace dcs3gd::data
