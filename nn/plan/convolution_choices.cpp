#include "nn/plan/convolution_choices.h"

#include <algorithm>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn {
namespace {

const char* name_of(ConvolutionDirection direction) {
  switch (direction) {
    case ConvolutionDirection::forward:
      return "forward";
    case ConvolutionDirection::backward_data:
      return "backward data";
    case ConvolutionDirection::backward_weights:
      return "backward weights";
  }
  return "";
}

constexpr std::string_view kDirect = ": direct";
constexpr std::string_view kWinograd = ": winograd";

}  // namespace

std::string ConvolutionCase::to_string() const {
  return format("{} {} to {} kernel {} stride {} padding {}{} images {}{}", name_of(direction), src.to_string(),
                options.oc, options.kernel, options.stride, options.padding, options.bias ? " bias" : "", images,
                precision == Precision::bf16 ? " bf16" : "");
}

ConvolutionAlgorithm ConvolutionChoices::of(const ConvolutionCase& convolution) const {
  const auto entry = algorithms_.find(convolution.to_string());
  return entry == algorithms_.end() ? ConvolutionAlgorithm::direct : entry->second;
}

bool ConvolutionChoices::knows(const ConvolutionCase& convolution) const {
  return algorithms_.contains(convolution.to_string());
}

void ConvolutionChoices::set(const ConvolutionCase& convolution, ConvolutionAlgorithm algorithm) {
  algorithms_[convolution.to_string()] = algorithm;
}

std::string ConvolutionChoices::to_text() const {
  std::string text;
  for (const auto& [convolution, algorithm] : algorithms_) {
    text += format("{}{}\n", convolution, algorithm == ConvolutionAlgorithm::winograd ? kWinograd : kDirect);
  }
  return text;
}

ConvolutionChoices ConvolutionChoices::from_text(std::string_view text) {
  ConvolutionChoices choices;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto take = [&](std::string_view ending, ConvolutionAlgorithm algorithm) {
      if (!line.ends_with(ending)) return false;
      choices.algorithms_[std::string(line.substr(0, line.size() - ending.size()))] = algorithm;
      return true;
    };
    if (!take(kDirect, ConvolutionAlgorithm::direct) && !take(kWinograd, ConvolutionAlgorithm::winograd)) {
      throw Error(ErrorKind::input, format("expected 'CONVOLUTION: direct' or ': winograd', found '{}'", line));
    }
  }
  return choices;
}

}  // namespace dcs3gd::nn
