#include "data/photos/image_encoder.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <jpeglib.h>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::data {
namespace {

/// Nothing but memory can be wrong, so an exception may leave libjpeg's functions: it is compiled to unwind.
[[noreturn]] void on_jpeg_error(j_common_ptr jpeg) {
  std::array<char, JMSG_LENGTH_MAX> message{};
  jpeg->err->format_message(jpeg, message.data());
  throw Error(ErrorKind::failure, format("libjpeg cannot write a JPEG: {}", message.data()));
}

/// libjpeg's state and the file it writes to memory.
struct JpegEncoder {
  JpegEncoder() {
    jpeg.err = jpeg_std_error(&errors);
    errors.error_exit = on_jpeg_error;
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &file, &file_bytes);
  }
  JpegEncoder(const JpegEncoder&) = delete;
  JpegEncoder& operator=(const JpegEncoder&) = delete;
  ~JpegEncoder() {
    jpeg_destroy_compress(&jpeg);
    std::free(file);
  }

  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  unsigned char* file = nullptr;
  unsigned long file_bytes = 0;
};

}  // namespace

std::vector<std::uint8_t> encode_jpeg(ImageSize size, std::span<const std::uint8_t> planes, int quality) {
  const auto width = static_cast<std::size_t>(size.width);
  const std::size_t plane = width * static_cast<std::size_t>(size.height);
  const auto red = planes.first(plane);
  const auto green = planes.subspan(plane, plane);
  const auto blue = planes.subspan(2 * plane, plane);
  const bool is_grey = std::ranges::equal(red, green) && std::ranges::equal(red, blue);

  JpegEncoder encoder;
  jpeg_compress_struct& jpeg = encoder.jpeg;
  jpeg.image_width = static_cast<JDIMENSION>(size.width);
  jpeg.image_height = static_cast<JDIMENSION>(size.height);
  jpeg.input_components = is_grey ? 1 : 3;
  jpeg.in_color_space = is_grey ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, quality, TRUE);
  jpeg.optimize_coding = TRUE;  // a few per cent smaller, for files that are read a hundred times
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<std::uint8_t> row(width * static_cast<std::size_t>(jpeg.input_components));
  for (std::size_t first = 0; first < plane; first += width) {
    if (is_grey) {
      std::ranges::copy(red.subspan(first, width), row.begin());
    } else {
      for (std::size_t x = 0; x < width; ++x) {
        row[3 * x] = red[first + x];
        row[3 * x + 1] = green[first + x];
        row[3 * x + 2] = blue[first + x];
      }
    }
    JSAMPROW source = row.data();
    jpeg_write_scanlines(&jpeg, &source, 1);
  }
  jpeg_finish_compress(&jpeg);
  return {encoder.file, encoder.file + encoder.file_bytes};
}

}  // namespace dcs3gd::data
