#include "nn/graph/layer_outline.h"

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn {

std::string ImageShape::to_string() const { return format("{}x{}x{}", channels, height, width); }

ImageShape shape_of_windows(const std::string& layer, const ImageShape& src, int channels, int kernel, int stride,
                            int padding) {
  const auto windows = [&](int pixels) {
    if (pixels + 2 * padding < kernel) {
      throw Error(ErrorKind::input,
                  format("layer {}: its input is {} pixels wide, smaller than its {}-pixel window; use larger images "
                         "(data.image_size) or a model for small ones",
                         layer, pixels, kernel));
    }
    return (pixels + 2 * padding - kernel) / stride + 1;
  };
  return {channels, windows(src.height), windows(src.width)};
}

}  // namespace dcs3gd::nn
