#pragma once

#include <map>
#include <string>
#include <string_view>

#include "nn/graph.h"
#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

enum class ConvolutionAlgorithm {
  direct,
  winograd,  ///< F(4×4, 3×3): fewer multiplications, larger rounding errors (README.md); AVX-512, stride 1
};

/// What an algorithm computes in: oneDNN has Winograd's in fp32 alone. A bf16 network converts for it.
inline Precision computed_in(ConvolutionAlgorithm algorithm, Precision activations) {
  return algorithm == ConvolutionAlgorithm::winograd ? Precision::fp32 : activations;
}

/// One direction of a convolution, as far as its speed goes.
struct ConvolutionCase {
  enum class Direction { forward, backward_data, backward_weights };

  Direction direction = Direction::forward;
  ImageShape src;
  Convolution options;
  int images = 0;
  Precision precision = Precision::fp32;  ///< of the activations

  /// "forward 64x56x56 to 64 kernel 3 stride 1 padding 1 images 32", for bf16 with " bf16" behind it
  std::string to_string() const;
};

/// Which algorithm computes what. Part of what results depend on: all ranks of a run must use the same.
class ConvolutionChoices {
 public:
  /// Direct where nothing was chosen.
  ConvolutionAlgorithm of(const ConvolutionCase& convolution) const;
  bool knows(const ConvolutionCase& convolution) const;
  void set(const ConvolutionCase& convolution, ConvolutionAlgorithm algorithm);

  /// A line for each choice, and back. Throws Error{input} for anything else.
  std::string to_text() const;
  static ConvolutionChoices from_text(std::string_view text);

  bool operator==(const ConvolutionChoices&) const = default;

 private:
  std::map<std::string, ConvolutionAlgorithm> algorithms_;  ///< by case
};

/// Times those convolutions of a network that can be computed in several ways and that `choices` does not know, and
/// adds the fastest of each: of a training pass over `batch` images, and of evaluation. On the caller's OpenMP team;
/// nothing else should run meanwhile. Takes a second or two for a large network, next to nothing where all is known.
void measure_convolutions(const Graph& graph, int batch, Precision precision, ConvolutionChoices& choices);

/// What choices hold for: processor, instruction set, threads of the caller's team, oneDNN's version. On one line.
std::string describe_machine();

}  // namespace dcs3gd::nn
