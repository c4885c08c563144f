#include "tests/data/encoded_images.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <jpeglib.h>
#include <zlib.h>

#include "core/random_stream.h"

namespace dcs3gd::data {
namespace {

void append_big_endian(std::vector<std::uint8_t>& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

void append_chunk(std::vector<std::uint8_t>& file, const std::string& name, const std::vector<std::uint8_t>& data) {
  append_big_endian(file, static_cast<std::uint32_t>(data.size()));
  const std::size_t begin = file.size();
  file.insert(file.end(), name.begin(), name.end());
  file.insert(file.end(), data.begin(), data.end());
  const uLong crc = crc32(0, file.data() + begin, static_cast<uInt>(file.size() - begin));
  append_big_endian(file, static_cast<std::uint32_t>(crc));
}

/// A scan for the mean of each block, then one for each frequency, first without and then with its last bit.
std::vector<jpeg_scan_info> scan_script(int scans) {
  constexpr int kFrequencies = 63;
  std::vector<jpeg_scan_info> script;
  for (int scan = 0; scan < scans; ++scan) {
    const bool is_refinement = scan > kFrequencies;
    const int frequency = is_refinement ? scan - kFrequencies : scan;
    script.push_back({.comps_in_scan = 1,
                      .component_index = {},
                      .Ss = frequency,
                      .Se = frequency,
                      .Ah = is_refinement ? 1 : 0,
                      .Al = is_refinement || frequency == 0 ? 0 : 1});
  }
  return script;
}

}  // namespace

std::vector<std::uint8_t> picture(ImageSize size, int channels, std::uint64_t seed) {
  RandomStream random(seed, RandomPurpose::test);
  std::vector<std::uint8_t> pixels;
  const float x_wave = random.uniform(0.02F, 0.08F);
  const float y_wave = random.uniform(0.02F, 0.08F);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      for (int channel = 0; channel < channels; ++channel) {
        const auto phase = static_cast<float>(channel);
        const float wave =
            std::sin(static_cast<float>(x) * x_wave + phase) * std::cos(static_cast<float>(y) * y_wave - phase);
        const bool square = (x / 11 + y / 7) % 5 == channel;
        const float value = 128 + 90 * wave + (square ? 30.0F : 0.0F) + random.uniform(-4, 4);
        pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F)));
      }
    }
  }
  return pixels;
}

std::vector<std::uint8_t> jpeg_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels,
                                    const JpegForm& form) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&jpeg, &memory, &bytes);
  jpeg.image_width = static_cast<JDIMENSION>(size.width);
  jpeg.image_height = static_cast<JDIMENSION>(size.height);
  jpeg.input_components = channels;
  jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, form.quality, TRUE);
  jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = channels == 3 ? form.chroma_sampling : 1;
  if (form.progressive) jpeg_simple_progression(&jpeg);
  const std::vector<jpeg_scan_info> scans = scan_script(form.grey_scans);
  if (!scans.empty()) {
    jpeg.scan_info = scans.data();
    jpeg.num_scans = form.grey_scans;
  }
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(size.width * channels));
  while (jpeg.next_scanline < jpeg.image_height) {
    std::copy_n(pixels.begin() + static_cast<std::ptrdiff_t>(jpeg.next_scanline * row.size()), row.size(), row.begin());
    JSAMPROW source = row.data();
    jpeg_write_scanlines(&jpeg, &source, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::vector<std::uint8_t> file(memory, memory + bytes);
  std::free(memory);
  return file;
}

std::vector<std::uint8_t> png_file(ImageSize size, int channels, const std::vector<std::uint8_t>& pixels, int depth) {
  std::vector<std::uint8_t> rows;
  const auto row_bytes = static_cast<std::size_t>(size.width * channels * depth / 8);
  for (std::size_t first = 0; first < pixels.size(); first += row_bytes) {
    rows.push_back(0);  // no filter
    rows.insert(rows.end(), pixels.begin() + static_cast<std::ptrdiff_t>(first),
                pixels.begin() + static_cast<std::ptrdiff_t>(first + row_bytes));
  }
  uLongf packed_bytes = compressBound(rows.size());
  std::vector<std::uint8_t> packed(packed_bytes);
  compress(packed.data(), &packed_bytes, rows.data(), rows.size());
  packed.resize(packed_bytes);

  std::vector<std::uint8_t> header;
  append_big_endian(header, static_cast<std::uint32_t>(size.width));
  append_big_endian(header, static_cast<std::uint32_t>(size.height));
  const std::uint8_t color_type = channels == 1 ? 0 : channels == 3 ? 2 : 6;
  header.insert(header.end(), {static_cast<std::uint8_t>(depth), color_type, 0, 0, 0});

  std::vector<std::uint8_t> file{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  append_chunk(file, "IHDR", header);
  append_chunk(file, "IDAT", packed);
  append_chunk(file, "IEND", {});
  return file;
}

std::vector<std::uint8_t> gzip(const std::vector<std::uint8_t>& plain) {
  constexpr int kGzipFormat = 15 + 16;
  constexpr int kDefaultMemory = 8;
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipFormat, kDefaultMemory, Z_DEFAULT_STRATEGY);
  std::vector<std::uint8_t> packed(deflateBound(&stream, plain.size()));
  stream.next_in = const_cast<Bytef*>(plain.data());
  stream.avail_in = static_cast<unsigned>(plain.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<unsigned>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

}  // namespace dcs3gd::data
