// The image decoders: an image or a reason, for every bytes.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <zlib.h>

#include "data/photos/image_decoder.h"
#include "data/transform/resample.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace dcs3gd;
using namespace dcs3gd::data;

constexpr int kSide = 64;

/// Chance does not find checksums: those of the chunks of what begins like a PNG are made right.
void mend_checksums(std::vector<std::uint8_t>& file) {
  constexpr std::array<std::uint8_t, 4> kBegin{0x89, 'P', 'N', 'G'};
  constexpr std::size_t kSignatureBytes = 8;
  constexpr std::size_t kFrameBytes = 12;
  if (file.size() < kSignatureBytes || !std::equal(kBegin.begin(), kBegin.end(), file.begin())) return;
  for (std::size_t at = kSignatureBytes; file.size() - at >= kFrameBytes;) {
    const auto big_endian = [&](std::size_t i) {
      return std::size_t{file[i]} << 24 | std::size_t{file[i + 1]} << 16 | std::size_t{file[i + 2]} << 8 | file[i + 3];
    };
    const std::size_t length = big_endian(at);
    if (length > file.size() - at - kFrameBytes) return;
    const uLong crc = crc32(0, file.data() + at + 4, static_cast<uInt>(length + 4));
    for (std::size_t byte = 0; byte < 4; ++byte) {
      file[at + 8 + length + byte] = static_cast<std::uint8_t>(crc >> (24 - 8 * byte));
    }
    at += kFrameBytes + length;
  }
}

void decode(std::span<const std::uint8_t> file, const CropRule& crop_rule, bool scale) {
  const fuzz::TimeLimit limit;
  DecodedImage image;
  if (!decode_image(file, crop_rule, image).empty()) return;
  fuzz::require(image.width >= 1 && image.height >= 1);
  fuzz::require(static_cast<std::int64_t>(image.file_size.width) * image.file_size.height <= kMaxImagePixels);
  if (!scale) return;
  std::vector<std::uint8_t> planes(std::size_t{3} * kSide * kSide);
  resample(image, 3, planes);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  for (int round = 0; round < 2; ++round) {
    switch (size % 3) {
      case 0:
        decode(file, CropRule::whole(), false);
        break;
      case 1:
        decode(file, CropRule::center(kSide), true);
        break;
      default:
        decode(file, CropRule::random_resized(kSide, RandomStream(1, RandomPurpose::test, size)), true);
    }
    mend_checksums(file);
    if (std::equal(file.begin(), file.end(), data)) break;
  }
  return 0;
}
