#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dcs3gd::data {

/// The two parts of a data set.
enum class Part { train, eval };

/// What happens when an image cannot be decoded.
enum class OnBadImage {
  error,
  skip,      ///< unless there are too many
  skip_all,  ///< however many there are: where no result rests on how many there were
};

/// Sizes of the generated data set.
struct SyntheticOptions {
  std::int64_t train_images = 4096;
  std::int64_t eval_images = 1024;
};

/// (pixel/255 − mean) / std per channel. Empty: the format's own values (data/formats.h).
struct NormalizeOptions {
  std::vector<float> mean;
  std::vector<float> std;

  bool operator==(const NormalizeOptions&) const = default;
};

/// Random changes to training images; evaluation images are never changed. Affects results.
struct AugmentOptions {
  int random_crop_padding = 0;  ///< zero-pad by this many pixels on each side, then crop at random to the image size
  bool random_resized_crop = false;
  bool horizontal_flip = false;
  float color_jitter = 0;
  float mixup = 0;  ///< α of the Beta distribution that shares are drawn from; 0: nothing is mixed
};

/// Affects speed only: batches do not depend on these (but for on_bad_image).
struct LoaderOptions {
  std::optional<int> threads;  ///< none: auto (data/batch_loader.h); 0: batches are made by the caller of next()
  int prefetch_batches = 4;    ///< batches made ahead, ≥ 1
  OnBadImage on_bad_image = OnBadImage::error;
};

/// The `data:` section of the configuration. What the paths name, format by format: data/README.md; relative ones are
/// completed by resolve_data_path() (data/paths.h) when the data set is opened.
struct DataOptions {
  std::string format = "synthetic";  ///< the name of a line of formats() (data/formats.h)
  std::string train;
  std::string eval;
  double split = 0;     ///< share of each class's photos in `train` that are the evaluation part; 0: `eval` names it
  int image_size = 32;  ///< pixels, square
  int channels = 3;     ///< 1 or 3
  bool shuffle = true;
  SyntheticOptions synthetic;
  NormalizeOptions normalize;
  AugmentOptions augment;
  LoaderOptions loader;
};

}  // namespace dcs3gd::data
