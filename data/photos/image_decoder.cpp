#include "data/photos/image_decoder.h"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include <jpeglib.h>
#include <malloc.h>
#include <zlib.h>

#include "core/format.h"
#include "core/lower_case.h"

namespace {

/// stb_image's memory for the image at work in this thread: a PNG of few bytes can unfold to gigabytes.
struct PngMemory {
  std::size_t block_limit = 0;  ///< bytes a single block may have
  std::size_t limit = 0;        ///< bytes of all blocks
  std::size_t in_use = 0;
};
thread_local PngMemory png_memory;

void* png_reallocate(void* old, std::size_t bytes) {
  const std::size_t old_bytes = malloc_usable_size(old);
  if (bytes > png_memory.block_limit || png_memory.in_use - old_bytes + bytes > png_memory.limit) return nullptr;
  void* memory = std::realloc(old, bytes);
  if (memory != nullptr) png_memory.in_use += malloc_usable_size(memory) - old_bytes;
  return memory;
}

void* png_allocate(std::size_t bytes) { return png_reallocate(nullptr, bytes); }

void png_free(void* memory) {
  png_memory.in_use -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

#define STBI_MALLOC(bytes) png_allocate(bytes)
#define STBI_REALLOC(memory, bytes) png_reallocate(memory, bytes)
#define STBI_FREE(memory) png_free(memory)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"  // in the arguments it gives to the three macros above
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace dcs3gd::data {
namespace {

using File = std::span<const std::uint8_t>;

std::string size_problem(std::int64_t width, std::int64_t height) {
  if (width < 1 || height < 1) return format("the header says {}x{} pixels", width, height);
  if (width * height <= kMaxImagePixels) return "";
  return format("{}x{} pixels are more than the {} million that are read", width, height, kMaxImagePixels / 1000000);
}

// --- JPEG
// -------------------------------------------------------------------------------------------------------------

/// Pixels decoded around the part that is shown: colours are stored at half the resolution, so those at a border depend
/// on what lies beyond it.
constexpr int kJpegMargin = 16;
/// The decoder shrinks by 2, 4 or 8 as long as this many of its pixels remain for each one shown; with fewer the result
/// is visibly softer than from all pixels.
constexpr double kPixelsPerShownPixel = 2;

struct JpegErrors : jpeg_error_mgr {
  std::jmp_buf leave{};
  std::array<char, JMSG_LENGTH_MAX> message{};
};

[[noreturn]] void leave_jpeg(j_common_ptr jpeg, const char* message) {
  auto* errors = static_cast<JpegErrors*>(jpeg->err);
  std::snprintf(errors->message.data(), errors->message.size(), "%s", message);
  std::longjmp(errors->leave, 1);
}

void on_jpeg_error(j_common_ptr jpeg) {
  std::array<char, JMSG_LENGTH_MAX> message{};
  jpeg->err->format_message(jpeg, message.data());
  leave_jpeg(jpeg, message.data());
}

/// Warnings are damage that libjpeg bridges.
void on_jpeg_message(j_common_ptr /*jpeg*/, int /*level*/) {}

/// libjpeg itself would go on with grey.
boolean on_jpeg_data_end(j_decompress_ptr jpeg) {
  leave_jpeg(reinterpret_cast<j_common_ptr>(jpeg), "the file ends before the image does");
}

void on_jpeg_progress(j_common_ptr jpeg) {
  const auto* file = reinterpret_cast<j_decompress_ptr>(jpeg);
  const std::int64_t pixels = std::int64_t{file->image_width} * file->image_height;
  const bool is_allowed = file->input_scan_number <= kMaxScans && file->input_scan_number * pixels <= kMaxScannedPixels;
  if (!is_allowed) leave_jpeg(jpeg, "too many scans");
}

/// As Pillow does: the inks are stored inverted, as Adobe's programs do.
void cmyk_to_rgb(std::uint8_t* row, int width) {
  const auto multiply = [](int a, int b) {
    const int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
  };
  for (int x = 0; x < width; ++x, row += kPixelBytes) {
    const int black = row[3];
    for (int ink = 0; ink < 3; ++ink) row[ink] = static_cast<std::uint8_t>(black - multiply(255 - row[ink], black));
  }
}

/// The largest of 1, 2, 4 and 8 by which the decoder may shrink.
int jpeg_divisor(const Crop& crop) {
  const double reduction = std::min(static_cast<double>(crop.source.width) / crop.scaled.width,
                                    static_cast<double>(crop.source.height) / crop.scaled.height);
  int divisor = 1;
  while (divisor < 8 && reduction >= kPixelsPerShownPixel * 2 * divisor) divisor *= 2;
  return divisor;
}

/// libjpeg's errors leave its functions by longjmp, which must not skip destructors: what has one is a member here, or
/// lives in the caller.
class JpegDecoder {
 public:
  explicit JpegDecoder(File file) : file_(file) {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_jpeg_error;
    errors_.emit_message = on_jpeg_message;
    progress_.progress_monitor = on_jpeg_progress;
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&jpeg_); }

  bool read_header() {
    if (setjmp(errors_.leave) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_.mem->max_memory_to_use = kMaxDecoderBytes;
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, file_.data(), file_.size());
    jpeg_.src->fill_input_buffer = on_jpeg_data_end;
    jpeg_read_header(&jpeg_, TRUE);
    return true;
  }

  ImageSize size() const { return {static_cast<int>(jpeg_.image_width), static_cast<int>(jpeg_.image_height)}; }

  /// Chooses scale and rows and begins. Afterwards the image has its size, its source and no pixels yet.
  bool start(DecodedImage& image) {
    if (setjmp(errors_.leave) != 0) return false;
    const bool has_inks = jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK;
    jpeg_.out_color_space = has_inks ? JCS_CMYK : JCS_EXT_RGBX;
    const int divisor = jpeg_divisor(image.crop);
    jpeg_.scale_num = 1;
    jpeg_.scale_denom = static_cast<unsigned>(divisor);
    jpeg_start_decompress(&jpeg_);

    const Box& box = image.crop.source;
    const auto scaled_down = [divisor](int length) { return length / divisor; };
    const auto scaled_up = [divisor](int length) { return (length + divisor - 1) / divisor; };
    first_row_ = std::max(scaled_down(box.y) - kJpegMargin, 0);
    image.height = std::min(scaled_up(box.y + box.height), static_cast<int>(jpeg_.output_height)) - first_row_;
    const int left = std::max(scaled_down(box.x) - kJpegMargin, 0);
    const int right = std::min(scaled_up(box.x + box.width) + kJpegMargin, static_cast<int>(jpeg_.output_width));
    auto first_column = static_cast<JDIMENSION>(left);
    auto columns = static_cast<JDIMENSION>(right - left);
    if (columns < jpeg_.output_width) jpeg_crop_scanline(&jpeg_, &first_column, &columns);
    image.width = static_cast<int>(columns);
    const double scale = divisor;
    image.source = {.x = box.x / scale - first_column,
                    .y = box.y / scale - first_row_,
                    .width = box.width / scale,
                    .height = box.height / scale};
    return true;
  }

  /// `pixels` has room for the image that start() announced.
  bool read_rows(std::uint8_t* pixels, int width, int height) {
    if (setjmp(errors_.leave) != 0) return false;
    if (first_row_ > 0) jpeg_skip_scanlines(&jpeg_, static_cast<JDIMENSION>(first_row_));
    const auto row_bytes = static_cast<std::size_t>(width) * kPixelBytes;
    for (int row = 0; row < height;) {
      JSAMPROW target = pixels + static_cast<std::size_t>(row) * row_bytes;
      const auto rows = static_cast<int>(jpeg_read_scanlines(&jpeg_, &target, 1));
      if (rows > 0 && jpeg_.out_color_space == JCS_CMYK) cmyk_to_rgb(target, width);
      row += rows;
    }
    return true;
  }

  const char* problem() const { return errors_.message.data(); }

 private:
  File file_;
  jpeg_decompress_struct jpeg_{};
  JpegErrors errors_{};
  jpeg_progress_mgr progress_{};
  int first_row_ = 0;
};

/// Reads the header; the reason if it is damaged or says too much.
std::string begin_jpeg(JpegDecoder& decoder, ImageSize& size) {
  if (!decoder.read_header()) return decoder.problem();
  size = decoder.size();
  return size_problem(size.width, size.height);
}

std::string decode_jpeg(File file, const CropRule& crop_rule, DecodedImage& image) {
  JpegDecoder decoder(file);
  if (std::string problem = begin_jpeg(decoder, image.file_size); !problem.empty()) return problem;
  image.crop = crop_rule.crop(image.file_size);
  if (!decoder.start(image)) return decoder.problem();
  image.allocate();
  return decoder.read_rows(image.pixels.data(), image.width, image.height) ? "" : decoder.problem();
}

// --- PNG
// --------------------------------------------------------------------------------------------------------------

constexpr std::array<std::uint8_t, 8> kPngSignature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

bool is_letter(std::uint8_t c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

std::uint32_t big_endian_u32(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

/// stb_image does not look at checksums: a PNG is its signature, then chunks of length, name, data and CRC up to IEND.
/// What comes after the pixels (IDAT) does not matter: a damaged chunk of text is passed over, and where the file ends
/// or makes no sense there, `end` is where the sound part ends and IEND is wanting. A name that is none would be the
/// first word of stb_image's reason, which must not be empty.
std::string png_chunk_problem(File file, std::size_t& end) {
  constexpr std::size_t kFrameBytes = 12;
  const auto is = [](const std::uint8_t* name, const char* word) { return std::memcmp(name, word, 4) == 0; };
  bool has_pixels = false;
  end = kPngSignature.size();
  std::string problem = "the file ends before the image does";
  while (file.size() - end >= kFrameBytes) {
    const std::uint32_t length = big_endian_u32(file.data() + end);
    const std::uint8_t* name = file.data() + end + 4;
    const bool is_name = std::all_of(name, name + 4, [](std::uint8_t c) { return is_letter(c); });
    if (is(name, "CgBI")) return "a PNG in Apple's own form (CgBI), which others read in wrong colours; convert it";
    if (!is_name) problem = format("damaged: name of the chunk at byte {}", end);
    if (!is_name || length > file.size() - end - kFrameBytes) break;
    const bool is_ancillary = name[0] >= 'a';
    const uLong crc = crc32(crc32(0, nullptr, 0), name, length + 4);
    if (crc != big_endian_u32(name + 4 + length) && !(has_pixels && (is_ancillary || is(name, "IEND")))) {
      return format("damaged: checksum of the chunk at byte {}", end);
    }
    // stb_image copies from it to nowhere.
    if (length == 0 && is(name, "IDAT") && !has_pixels)
      return format("damaged: no pixels in the chunk at byte {}", end);
    end += kFrameBytes + length;
    if (is(name, "IEND")) return "";
    has_pixels = has_pixels || is(name, "IDAT");
  }
  return has_pixels ? "" : problem;
}

/// The file as stb_image wants it, in `completed` if it lacks IEND. Returns what is wrong with it.
std::string complete_png(File& file, std::vector<std::uint8_t>& completed) {
  constexpr std::array<std::uint8_t, 12> kEnd{0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
  std::size_t end = 0;
  std::string problem = png_chunk_problem(file, end);
  if (!problem.empty() || std::memcmp(file.data() + end - 8, kEnd.data() + 4, 4) == 0) return problem;
  completed.assign(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(end));
  completed.insert(completed.end(), kEnd.begin(), kEnd.end());
  file = completed;
  return problem;
}

/// Copies the part that is shown.
void copy_box(const std::uint8_t* pixels, DecodedImage& image) {
  const Box& box = image.crop.source;
  image.width = box.width;
  image.height = box.height;
  image.source = {.width = static_cast<double>(box.width), .height = static_cast<double>(box.height)};
  const auto row_bytes = static_cast<std::size_t>(box.width) * kPixelBytes;
  image.allocate();
  for (int row = 0; row < box.height; ++row) {
    const std::size_t first = static_cast<std::size_t>(box.y + row) * static_cast<std::size_t>(image.file_size.width) +
                              static_cast<std::size_t>(box.x);
    std::memcpy(image.pixels.data() + static_cast<std::size_t>(row) * row_bytes, pixels + first * kPixelBytes,
                row_bytes);
  }
}

/// Bytes that stb_image holds at once for an image of this size, about: the rows as they were compressed, and pixels of
/// four channels made of them. The header's first chunk, which the caller has found sound, has the depth.
std::int64_t png_decoder_bytes(File file, const ImageSize& size, int channels) {
  constexpr std::size_t kDepthAt = 24;
  const int depth = file[kDepthAt];
  const std::int64_t row_bytes = (std::int64_t{size.width} * channels * depth + 7) / 8 + 1;
  const std::int64_t pixel_bytes = std::int64_t{size.width} * size.height * kPixelBytes * (depth == 16 ? 2 : 1);
  return row_bytes * size.height + pixel_bytes;
}

/// What stb_image says is wrong; it has no words for some of it.
std::string png_problem() {
  const char* const reason = stbi_failure_reason();
  return reason == nullptr || *reason == '\0' ? "damaged: the pixels cannot be unpacked" : reason;
}

/// Checks the chunks and the header, and sets the limits of memory for what the header says. `file` may become
/// `completed`.
std::string begin_png(File& file, std::vector<std::uint8_t>& completed, ImageSize& size) {
  if (file.size() > static_cast<std::size_t>(kMaxDecoderBytes)) return "the file is too large";
  if (std::string problem = complete_png(file, completed); !problem.empty()) return problem;
  int channels = 0;
  png_memory = {.block_limit = file.size() + 65536, .limit = static_cast<std::size_t>(kMaxDecoderBytes)};
  if (stbi_info_from_memory(file.data(), static_cast<int>(file.size()), &size.width, &size.height, &channels) == 0) {
    return png_problem();
  }
  if (std::string problem = size_problem(size.width, size.height); !problem.empty()) return problem;
  if (png_decoder_bytes(file, size, channels) > kMaxDecoderBytes) {
    return format("{}x{} pixels of this depth take more than the {} MiB that a decoder may have", size.width,
                  size.height, kMaxDecoderBytes >> 20);
  }
  // Up to 8 bytes a pixel, a byte a row and pass, and room for a buffer that grows by doubling.
  const auto pixels = static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
  png_memory.block_limit =
      std::max(png_memory.block_limit, 2 * (8 * pixels + 16 * static_cast<std::size_t>(size.height)));
  return "";
}

std::string decode_png(File file, const CropRule& crop_rule, DecodedImage& image) {
  std::vector<std::uint8_t> completed;
  if (std::string problem = begin_png(file, completed, image.file_size); !problem.empty()) return problem;
  int channels = 0;
  const std::unique_ptr<stbi_uc, decltype([](stbi_uc* memory) { stbi_image_free(memory); })> decoded(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &image.file_size.width, &image.file_size.height,
                            &channels, kPixelBytes));
  if (decoded == nullptr) return png_problem();
  image.crop = crop_rule.crop(image.file_size);
  copy_box(decoded.get(), image);
  return "";
}

enum class FileKind { jpeg, png, other };

FileKind kind_of(File file) {
  constexpr std::array<std::uint8_t, 3> kJpegSignature{0xFF, 0xD8, 0xFF};
  const auto starts_with = [file](File signature) {
    return file.size() >= signature.size() && std::equal(signature.begin(), signature.end(), file.begin());
  };
  if (starts_with(kJpegSignature)) return FileKind::jpeg;
  return starts_with(kPngSignature) ? FileKind::png : FileKind::other;
}

/// What a file is that is neither, by its first bytes.
std::string unknown_kind(File file) {
  struct Signature {
    std::size_t at;
    std::string_view bytes;
    const char* kind;
  };
  using namespace std::string_view_literals;
  static constexpr Signature kSignatures[] = {
      {0, "version https://git-lfs"sv, "the pointer of Git LFS to a file; fetch it with git lfs pull"},
      {8, "WEBP"sv, "a WebP image"},
      {0, "GIF8"sv, "a GIF image"},
      {0, "BM"sv, "a BMP image"},
      {0, "II*\0"sv, "a TIFF image"},
      {0, "MM\0*"sv, "a TIFF image"},
      {4, "ftypavif"sv, "an AVIF image"},
      {4, "ftyphei"sv, "a HEIC image"},
      {4, "ftypmif1"sv, "a HEIC image"},
      {0, "\0\0\0\x0cjP  "sv, "a JPEG 2000 image"},
      {0, "\xff\x0a"sv, "a JPEG XL image"},
      {0, "\0\0\0\x0cJXL "sv, "a JPEG XL image"},
      {0, "8BPS"sv, "a Photoshop file"},
      {0, "%PDF"sv, "a PDF file"},
      {0, "PK\x03\x04"sv, "a ZIP archive"},
      {0, "\x1f\x8b"sv, "a gzip file"},
  };
  if (file.empty()) return "the file is empty";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 256));
  for (const Signature& signature : kSignatures) {
    if (text.size() >= signature.at && text.substr(signature.at).starts_with(signature.bytes)) {
      return format("neither JPEG nor PNG but {}", signature.kind);
    }
  }
  const std::size_t first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (first != std::string_view::npos && text[first] == '<') {
    return "neither JPEG nor PNG but HTML or XML: a web page in place of a photo, or a drawing (SVG)";
  }
  if (std::ranges::all_of(file, [](std::uint8_t byte) { return byte == 0; })) {
    return "neither JPEG nor PNG but zeros alone; was it copied or fetched whole?";
  }
  const bool is_text = std::ranges::none_of(
      text, [](char c) { return static_cast<std::uint8_t>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t'; });
  return is_text && text.size() >= 16 ? "neither JPEG nor PNG but text" : "neither JPEG nor PNG";
}

}  // namespace

bool is_image_extension(std::string_view extension) {
  const std::string name = lower_case(std::string(extension));
  return name == "jpg" || name == "jpeg" || name == "png";
}

std::string read_image_size(std::span<const std::uint8_t> file, ImageSize& size) {
  const FileKind kind = kind_of(file);
  std::vector<std::uint8_t> completed;
  if (kind == FileKind::png) return begin_png(file, completed, size);
  if (kind != FileKind::jpeg) return unknown_kind(file);
  JpegDecoder decoder(file);
  return begin_jpeg(decoder, size);
}

std::string decode_image(std::span<const std::uint8_t> file, const CropRule& crop_rule, DecodedImage& image) {
  const FileKind kind = kind_of(file);
  if (kind == FileKind::jpeg) return decode_jpeg(file, crop_rule, image);
  if (kind == FileKind::png) return decode_png(file, crop_rule, image);
  return unknown_kind(file);
}

}  // namespace dcs3gd::data
