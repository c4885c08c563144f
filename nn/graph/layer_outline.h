#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parameter_arena.h"

namespace dcs3gd::nn {

/// The shape of one image of an activation, in oneDNN's order; a vector of features is {features, 1, 1}.
struct ImageShape {
  int channels = 0;
  int height = 1;
  int width = 1;

  std::int64_t element_count() const { return std::int64_t{channels} * height * width; }
  std::string to_string() const;
  bool operator==(const ImageShape&) const = default;
};

/// How a parameter or statistic gets its first values.
struct Initializer {
  enum class Kind {
    constant,  ///< `value`
    normal,    ///< mean 0, standard deviation `value`
    uniform,   ///< in [−value, value)
  };
  Kind kind = Kind::constant;
  float value = 0;
};

/// What a layer adds to its graph: the shape of its output, and the tensors it needs.
struct LayerOutline {
  struct Tensor {
    std::string name;  ///< within the layer: "weight", "running_mean"
    Shape shape;
    ParameterKind kind = ParameterKind::weight;  ///< statistics: state, not learned; begins with a constant
    Initializer first = {};
  };

  ImageShape dst;
  std::vector<Tensor> tensors = {};
};

/// The shape after square windows have moved over `src`: oh = (ih + 2·padding − kernel) / stride + 1, rounded down.
/// Throws Error{input} that names the layer if a window does not fit.
ImageShape shape_of_windows(const std::string& layer, const ImageShape& src, int channels, int kernel, int stride,
                            int padding);

}  // namespace dcs3gd::nn
