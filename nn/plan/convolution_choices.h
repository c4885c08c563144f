#pragma once

#include <map>
#include <string>
#include <string_view>

#include "nn/graph/layer_options.h"
#include "nn/kernels/precision.h"
#include "nn/onednn/algorithm.h"

namespace dcs3gd::nn {

/// One direction of a convolution, with all that its speed depends on.
struct ConvolutionCase {
  ConvolutionDirection direction = ConvolutionDirection::forward;
  ImageShape src;
  Convolution options;
  int images = 0;
  Precision precision = Precision::fp32;  ///< of the activations

  /// "forward 64x56x56 to 64 kernel 3 stride 1 padding 1 images 32", for bf16 with " bf16" after it
  std::string to_string() const;
};

/// Which algorithm computes what. Part of what results depend on: all ranks of a run must use the same.
class ConvolutionChoices {
 public:
  /// The algorithm chosen for a convolution; direct where none was.
  ConvolutionAlgorithm of(const ConvolutionCase& convolution) const;
  bool knows(const ConvolutionCase& convolution) const;
  void set(const ConvolutionCase& convolution, ConvolutionAlgorithm algorithm);

  /// Writes a line for each choice, and reads them back. Throws Error{input} for anything else.
  std::string to_text() const;
  static ConvolutionChoices from_text(std::string_view text);

  bool operator==(const ConvolutionChoices&) const = default;

 private:
  std::map<std::string, ConvolutionAlgorithm> algorithms_;  ///< by case
};

}  // namespace dcs3gd::nn
