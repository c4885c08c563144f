// What the photo pipeline makes of files, for image_pixels_test.py to compare. Reads lines "KIND SIZE SEED FILE", KIND
// one of
//
//   whole    the decoded pixels; SIZE and SEED do not matter
//   center   evaluation's crop for SIZE
//   random   RandomResizedCrop for SIZE drawn from SEED
//   jitter   center, then a colour change drawn from SEED
//
// and answers each with a line "ok WIDTH HEIGHT  BOX  SCALED  WINDOW  FACTORS ORDER" followed by the bytes, red, green
// and blue by planes, or "bad REASON".

#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "data/photos/image_decoder.h"
#include "data/photos/image_folder.h"
#include "data/transform/color_jitter.h"
#include "data/transform/resample.h"

namespace {

using namespace dcs3gd;
using namespace dcs3gd::data;

constexpr float kStrength = 0.4F;

CropRule crop_rule_of(const std::string& kind, int size, std::uint64_t seed) {
  if (kind == "whole") return CropRule::whole();
  return kind == "random" ? CropRule::random_resized(size, RandomStream(seed, RandomPurpose::test))
                          : CropRule::center(size);
}

void answer(const std::string& kind, int size, std::uint64_t seed, const std::string& path) {
  std::vector<std::uint8_t> file;
  DecodedImage image;
  std::string problem = read_image_file(path, file);
  if (problem.empty()) problem = decode_image(file, crop_rule_of(kind, size, seed), image);
  if (!problem.empty()) {
    std::printf("bad %s\n", problem.c_str());
    return;
  }
  const auto& [source, scaled, window] = image.crop;
  std::vector<std::uint8_t> planes(static_cast<std::size_t>(3 * window.width * window.height));
  resample(image, 3, planes);
  ColorChange change;
  if (kind == "jitter") {
    RandomStream random(seed, RandomPurpose::test);
    change = draw_color_change(kStrength, random);
    jitter_colors(change, 3, planes);
  }
  std::printf("ok %d %d  %d %d %d %d  %d %d  %d %d %d %d  %.9g %.9g %.9g  %d %d %d\n", image.file_size.width,
              image.file_size.height, source.x, source.y, source.width, source.height, scaled.width, scaled.height,
              window.x, window.y, window.width, window.height, static_cast<double>(change.factors[0]),
              static_cast<double>(change.factors[1]), static_cast<double>(change.factors[2]), change.order[0],
              change.order[1], change.order[2]);
  std::fwrite(planes.data(), 1, planes.size(), stdout);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string kind;
    int size = 0;
    std::uint64_t seed = 0;
    std::string path;
    words >> kind >> size >> seed;
    std::getline(words >> std::ws, path);
    answer(kind, size, seed, path);
    std::fflush(stdout);
  }
}
