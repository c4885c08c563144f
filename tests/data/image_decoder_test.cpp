#include "data/photos/image_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include <sys/resource.h>
#include <zlib.h>

#include "data/photos/image_encoder.h"
#include "data/transform/resample.h"
#include "tests/data/data_test_support.h"
#include "tests/data/encoded_images.h"

namespace dcs3gd::data {
namespace {

constexpr double kMaxSeconds = 1;
/// Sanitizers make everything slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSlowness = 10;
#else
constexpr double kSlowness = 1;
#endif

/// Of this thread: the machine may have other things to do.
double processor_s() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// Decodes with the limits of time; the reason, or "" for an image.
std::string decode(const Bytes& file, const CropRule& crop_rule = CropRule::whole()) {
  DecodedImage image;
  const double begin_s = processor_s();
  std::string problem = decode_image(file, crop_rule, image);
  CHECK(processor_s() - begin_s < kMaxSeconds * kSlowness);
  if (problem.empty()) {
    const Box& window = image.crop.window;
    Bytes planes(static_cast<std::size_t>(3 * window.width * window.height));
    resample(image, 3, planes);
  }
  return problem;
}

/// The picture as R, G, B by rows.
Bytes decoded_rgb(const Bytes& file) {
  DecodedImage image;
  REQUIRE(decode_image(file, CropRule::whole(), image) == "");
  CHECK(image.width == image.file_size.width);
  CHECK(image.height == image.file_size.height);
  Bytes rgb;
  const auto pixels = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  for (std::size_t i = 0; i < pixels; ++i) {
    rgb.insert(rgb.end(), image.pixels.begin() + static_cast<std::ptrdiff_t>(4 * i),
               image.pixels.begin() + static_cast<std::ptrdiff_t>(4 * i + 3));
  }
  return rgb;
}

double mean_difference(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(int{a[i]} - int{b[i]});
  return sum / static_cast<double>(a.size());
}

Bytes read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("decoder: PNG gives its pixels, JPEG nearly its pixels") {
  for (const ImageSize size : {ImageSize{1, 1}, ImageSize{3, 2}, ImageSize{17, 33}, ImageSize{200, 150}}) {
    const Bytes colors = picture(size, 3, 1);
    CHECK(decoded_rgb(png_file(size, 3, colors)) == colors);
    if (size.width < 16) continue;
    for (const bool progressive : {false, true}) {
      const JpegForm fine{.quality = 98, .progressive = progressive, .chroma_sampling = 1};
      CHECK(mean_difference(decoded_rgb(jpeg_file(size, 3, colors, fine)), colors) < 2);
      CHECK(mean_difference(decoded_rgb(jpeg_file(size, 3, colors, {.progressive = progressive})), colors) < 8);
    }
  }
}

TEST_CASE("decoder: grey becomes three equal colours, transparency is dropped, CMYK becomes RGB") {
  const ImageSize size{40, 30};
  const Bytes grey = picture(size, 1, 2);
  Bytes three;
  for (const std::uint8_t value : grey) three.insert(three.end(), 3, value);
  CHECK(decoded_rgb(png_file(size, 1, grey)) == three);
  CHECK(mean_difference(decoded_rgb(jpeg_file(size, 1, grey, {.quality = 98})), three) < 2);

  const Bytes colors = picture(size, 3, 3);
  Bytes transparent;
  Bytes inks;  // inverted, without black: the colours themselves
  for (std::size_t i = 0; i < colors.size(); i += 3) {
    for (Bytes* target : {&transparent, &inks}) {
      target->insert(target->end(), colors.begin() + static_cast<std::ptrdiff_t>(i),
                     colors.begin() + static_cast<std::ptrdiff_t>(i + 3));
    }
    transparent.push_back(7);
    inks.push_back(255);
  }
  CHECK(decoded_rgb(png_file(size, 4, transparent)) == colors);
  CHECK(mean_difference(decoded_rgb(jpeg_file(size, 4, inks, {.quality = 98})), colors) < 3);
}

TEST_CASE("decoder: a part of a JPEG has the pixels of the whole") {
  const ImageSize size{330, 270};
  for (const int sampling : {1, 2}) {
    for (const bool progressive : {false, true}) {
      const Bytes file =
          jpeg_file(size, 3, picture(size, 3, 4), {.progressive = progressive, .chroma_sampling = sampling});
      const Bytes whole = decoded_rgb(file);
      for (std::uint64_t id = 0; id < 60; ++id) {
        DecodedImage part;
        // Crops of 224 pixels are never reduced by the decoder here.
        const CropRule crop_rule = CropRule::random_resized(224, RandomStream(1, RandomPurpose::test, id));
        REQUIRE(decode_image(file, crop_rule, part) == "");
        CHECK(part.file_size == size);
        const Box& box = part.crop.source;
        int wrong = 0;
        for (int y = 0; y < box.height; ++y) {
          for (int x = 0; x < box.width; ++x) {
            const std::size_t here = 4 * (static_cast<std::size_t>(y + static_cast<int>(part.source.y)) *
                                              static_cast<std::size_t>(part.width) +
                                          static_cast<std::size_t>(x + static_cast<int>(part.source.x)));
            const std::size_t there = 3 * (static_cast<std::size_t>(y + box.y) * static_cast<std::size_t>(size.width) +
                                           static_cast<std::size_t>(x + box.x));
            wrong += std::equal(part.pixels.begin() + static_cast<std::ptrdiff_t>(here),
                                part.pixels.begin() + static_cast<std::ptrdiff_t>(here + 3),
                                whole.begin() + static_cast<std::ptrdiff_t>(there))
                         ? 0
                         : 1;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("decoder: large JPEGs are decoded at a fraction, and look the same") {
  const ImageSize size{1600, 1200};
  const Bytes colors = picture(size, 3, 5);
  const Bytes jpeg = jpeg_file(size, 3, colors, {.quality = 95});
  DecodedImage reduced;
  REQUIRE(decode_image(jpeg, CropRule::center(64), reduced) == "");
  CHECK(reduced.width == 200);
  // The same pixels without loss, all of them decoded.
  DecodedImage full;
  REQUIRE(decode_image(png_file(size, 3, decoded_rgb(jpeg)), CropRule::center(64), full) == "");
  CHECK(full.width == size.width);
  Bytes a(3 * 64 * 64);
  Bytes b(a.size());
  resample(reduced, 3, a);
  resample(full, 3, b);
  CHECK(mean_difference(a, b) < 1);
}

TEST_CASE("decoder: what is refused, and why") {
  CHECK(decode({}) == "the file is empty");
  const auto kind = [](std::string_view text) { return decode(Bytes(text.begin(), text.end())); };
  CHECK(kind("GIF89a") == "neither JPEG nor PNG but a GIF image");
  CHECK(kind("RIFF....WEBPVP8 ") == "neither JPEG nor PNG but a WebP image");
  CHECK(contains(kind("version https://git-lfs.github.com/spec/v1\noid sha256:12\n"), "git lfs pull"));
  CHECK(contains(kind("\n<!DOCTYPE html><html>Not found"), "HTML"));
  CHECK(contains(kind("{\"message\": \"Not Found\"}"), "but text"));
  CHECK(contains(decode(Bytes(100)), "zeros alone"));
  CHECK(decode({1, 2, 3}) == "neither JPEG nor PNG");
  const ImageSize size{48, 32};
  const Bytes colors = picture(size, 3, 6);

  Bytes png = png_file(size, 3, colors);
  png[60] ^= 1;
  CHECK(contains(decode(png), "checksum of the chunk at byte 33"));

  Bytes jpeg = jpeg_file(size, 3, colors);
  jpeg.resize(jpeg.size() / 2);
  CHECK(decode(jpeg) == "the file ends before the image does");
}

TEST_CASE("decoder: pixels of a PNG with any bit flipped are refused, or an image of the size in the header") {
  constexpr std::size_t kChunk = 33;  // IDAT, behind signature and header
  constexpr ImageSize kSize{13, 11};
  const Bytes whole = png_file(kSize, 3, picture(kSize, 3, 6));
  const std::size_t length = whole[kChunk + 2] * std::size_t{256} + whole[kChunk + 3];
  const auto put_checksum = [&](Bytes& png) {
    const uLong checksum = crc32(0, png.data() + kChunk + 4, static_cast<uInt>(length + 4));
    for (std::size_t byte = 0; byte < 4; ++byte) {
      png[kChunk + 8 + length + byte] = static_cast<std::uint8_t>(checksum >> (24 - 8 * byte));
    }
  };
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * length; ++bit) {
    Bytes png = whole;
    png[kChunk + 8 + bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    put_checksum(png);
    DecodedImage image;
    const bool is_refused = !decode_image(png, CropRule::whole(), image).empty();
    CHECK((is_refused || (image.width == kSize.width && image.height == kSize.height)));
    refused += is_refused ? 1 : 0;
  }
  CHECK(refused > 0);
  // A block of the reserved kind; in a thread in which stb_image has said nothing yet.
  Bytes reserved = whole;
  reserved[kChunk + 8 + 2] |= 0b110;
  put_checksum(reserved);
  std::string problem;
  std::thread([&] { problem = decode(reserved); }).join();
  CHECK(problem == "damaged: the pixels cannot be unpacked");
  constexpr std::array<std::uint8_t, 12> kEmpty{0, 0, 0, 0, 'I', 'D', 'A', 'T', 0x35, 0xAF, 0x06, 0x1E};
  Bytes png = whole;
  png.insert(png.begin() + kChunk, kEmpty.begin(), kEmpty.end());
  CHECK(decode(png) == "damaged: no pixels in the chunk at byte 33");
}

TEST_CASE("decoder: claims beyond the limits are refused before memory is taken") {
  const Bytes colors(3, 0);
  Bytes jpeg = jpeg_file({1, 1}, 3, colors);
  constexpr std::array<std::uint8_t, 2> kStartOfFrame{0xFF, 0xC0};
  const auto frame = std::search(jpeg.begin(), jpeg.end(), kStartOfFrame.begin(), kStartOfFrame.end());
  REQUIRE(frame != jpeg.end());
  for (const int at : {5, 7}) {  // height and width
    frame[at] = 60000 / 256;
    frame[at + 1] = 60000 % 256;
  }
  CHECK(contains(decode(jpeg), "60000x60000 pixels are more than the 67 million"));

  // 8200 × 8200 pixels of which every byte is zero: 200 KB that unfold to 200 MB.
  CHECK(contains(decode(png_file({8200, 8200}, 3, Bytes(std::size_t{3} * 8200 * 8200))), "pixels are more than"));

  // Few enough pixels, but of 8 bytes that are held twice.
  CHECK(contains(decode(png_file({6000, 6000}, 4, Bytes(std::size_t{6000} * 8), 16)), "take more than the 512 MiB"));

  // A small image, but data for a hundred times as many pixels.
  const Bytes header_of_small = png_file({30, 30}, 3, Bytes(2700));
  Bytes bomb = png_file({3000, 3000}, 3, Bytes(std::size_t{3} * 3000 * 3000));
  std::copy_n(header_of_small.begin(), 33, bomb.begin());
  CHECK(decode(bomb) != "");
}

TEST_CASE("decoder: what comes after a PNG's pixels does not matter; Apple's form is refused") {
  const ImageSize size{48, 32};
  const Bytes png = png_file(size, 3, picture(size, 3, 6));
  const Bytes expected = decoded_rgb(png);
  constexpr std::ptrdiff_t kIend = 12;
  for (std::ptrdiff_t cut = 1; cut <= kIend; ++cut) CHECK(decoded_rgb(Bytes(png.begin(), png.end() - cut)) == expected);
  Bytes text = png;
  const std::string chunk("\0\0\0\x03tEXta\0b\0\0\0\0", 15);  // of a wrong checksum
  text.insert(text.end() - kIend, chunk.begin(), chunk.end());
  CHECK(decoded_rgb(text) == expected);
  text.resize(text.size() - kIend - 2);  // and cut off
  CHECK(decoded_rgb(text) == expected);
  Bytes before = png;
  before.insert(before.begin() + 33, chunk.begin(), chunk.end());
  CHECK(contains(decode(before), "checksum of the chunk at byte 33"));
  ImageSize found;
  CHECK(read_image_size(Bytes(png.begin(), png.end() - kIend), found) == "");
  CHECK(found == size);

  const std::string apple(
      "\0\0\0\x04"
      "CgBIP\0 \x02+\xd5\xb3\x7f",
      16);
  Bytes phone = png;
  phone.insert(phone.begin() + 8, apple.begin(), apple.end());
  CHECK(contains(decode(phone), "CgBI"));
}

// Found by fuzzing: the reason began with the zero and so was empty, which meant an image.
TEST_CASE("decoder: a PNG chunk that has zeros for a name") {
  Bytes png = png_file({3, 2}, 3, picture({3, 2}, 3, 1));
  constexpr std::array<std::uint8_t, 12> kNameless{0, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x44, 0xDF, 0x1C};
  constexpr std::ptrdiff_t kBehindHeader = 33;
  png.insert(png.begin() + kBehindHeader, kNameless.begin(), kNameless.end());
  CHECK(decode(png) == "damaged: name of the chunk at byte 33");
}

TEST_CASE("decoder: a JPEG cannot ask for its pixels again and again") {
  const auto black = [](int side, int scans) {
    const auto pixels = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
    return jpeg_file({side, side}, 1, Bytes(pixels), {.grey_scans = scans});
  };
  CHECK(decode(black(48, 100)) == "");
  CHECK(decode(black(48, 101)) == "too many scans");
  CHECK(decode(black(4096, 65)) == "too many scans");
}

TEST_CASE("decoder: the size alone") {
  const ImageSize size{31, 17};
  const Bytes colors = picture(size, 3, 11);
  for (const Bytes& file : {jpeg_file(size, 3, colors), png_file(size, 3, colors)}) {
    ImageSize found;
    CHECK(read_image_size(file, found) == "");
    CHECK(found == size);
    CHECK(read_image_size(Bytes(file.begin(), file.begin() + 20), found) != "");
  }
  ImageSize found;
  CHECK(read_image_size({}, found) == "the file is empty");
  CHECK(read_image_size(Bytes{'B', 'M'}, found) == "neither JPEG nor PNG but a BMP image");
}

TEST_CASE("encoder: the decoder gives back what was written, the nearer the better the quality") {
  const ImageSize size{75, 41};
  for (const int channels : {1, 3}) {
    const Bytes pixels = picture(size, channels, 12);
    DecodedImage image;
    REQUIRE(decode_image(png_file(size, channels, pixels), CropRule::whole(), image) == "");
    Bytes planes(std::size_t{3} * 75 * 41);
    resample(image, 3, planes);
    double last = 256;
    std::size_t last_bytes = 0;
    for (const int quality : {30, 75, 98}) {
      const Bytes file = encode_jpeg(size, planes, quality);
      REQUIRE(decode_image(file, CropRule::whole(), image) == "");
      Bytes again(planes.size());
      resample(image, 3, again);
      const double difference = mean_difference(again, planes);
      CHECK(difference < last);
      CHECK(file.size() > last_bytes);
      last = difference;
      last_bytes = file.size();
    }
    CHECK(last < (channels == 1 ? 1 : 4));
  }
}

TEST_CASE("decoder: every truncation and many damages of small files end in time") {
  const ImageSize size{23, 19};
  const Bytes colors = picture(size, 3, 7);
  RandomStream random(3, RandomPurpose::test);
  for (const Bytes& file :
       {png_file(size, 3, colors), jpeg_file(size, 3, colors), jpeg_file(size, 3, colors, {.progressive = true}),
        jpeg_file(size, 1, picture(size, 1, 8))}) {
    CHECK(decode(file) == "");
    const std::size_t after_pixels = file.front() == 0x89 ? 12 : 2;  // IEND of a PNG, the end mark of a JPEG
    for (std::size_t bytes = 0; bytes + after_pixels < file.size(); ++bytes) {
      CHECK(decode(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(bytes))) != "");
    }
    for (int round = 0; round < 2000; ++round) {
      Bytes damaged = file;
      for (std::uint32_t change = random.below(8) + 1; change > 0; --change) {
        damaged[random.below(static_cast<std::uint32_t>(damaged.size()))] =
            static_cast<std::uint8_t>(random.below(256));
      }
      decode(damaged, round % 2 == 0 ? CropRule::whole() : CropRule::center(8));
    }
  }
}

TEST_CASE("decoder: collections of odd and broken files" * doctest::skip()) {
  namespace fs = std::filesystem;
  int images = 0;
  for (const char* collection : {"decoder-corpus", "jpeg-variants"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(require_data(collection))) {
      if (!entry.is_regular_file() || (entry.path().extension() != ".jpg" && entry.path().extension() != ".png"))
        continue;
      CAPTURE(entry.path().string());
      const Bytes file = read_all(entry.path());
      const std::string problem = decode(file);
      CHECK(decode(file, CropRule::center(32)) == problem);
      const std::string kind = entry.path().parent_path().filename();
      if (kind == "corrupt") CHECK(problem != "");
      if (kind == "primary" || kind == "16bit" || kind == "jpeg-variants" || kind == "mozilla") CHECK(problem == "");
      images += problem.empty() ? 1 : 0;
      if (file.size() > 1500) continue;
      for (std::size_t bytes = 0; bytes < file.size(); ++bytes) {
        decode(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(bytes)));
      }
    }
  }
  CHECK(images > 150);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  CHECK(static_cast<double>(usage.ru_maxrss) * 1024 < 2.5 * static_cast<double>(kMaxDecoderBytes));
}

}  // namespace dcs3gd::data
