#pragma once

#include <string>

namespace dcs3gd::app {

struct LoaderBenchOptions {
  std::string data;      ///< an image folder or a folder of shards
  int threads = 1;       ///< that decode
  int image_size = 224;  ///< pixels
  double seconds = 5;    ///< of measuring
  bool json = false;
};

/// `dcs3gd-bench loader`: what a loader thread does for a photo (fetch, decode, RandomResizedCrop, flip, normalise),
/// beside libjpeg-turbo and stb_image alone decoding the same files whole, from memory, in turn on the same threads.
void bench_loader(const LoaderBenchOptions& options);

}  // namespace dcs3gd::app
