#pragma once

#include <functional>
#include <string>

#include "nn/graph/graph.h"
#include "nn/plan/convolution_choices.h"

namespace dcs3gd::nn {

/// Times those convolutions of a network that can be computed in several ways and that `choices` does not know, and
/// adds the fastest of each: of a training pass over `batch` images, and of evaluation. On the caller's OpenMP team;
/// nothing else should run meanwhile. Takes a second or two for a large network, next to nothing where all is known;
/// `before_each` is called before each convolution.
void measure_convolutions(
    const Graph& graph, int batch, Precision precision, ConvolutionChoices& choices,
    const std::function<void()>& before_each = [] {});

/// Names what choices hold for: processor, instruction set, threads of the caller's team, oneDNN's version, whose
/// Winograd. On one line.
std::string describe_machine();

}  // namespace dcs3gd::nn
