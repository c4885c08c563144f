#include "nn/convolution/convolution_choice.h"

#include <algorithm>
#include <fstream>

#include <omp.h>

#include "core/error.h"
#include "core/format.h"
#include "nn/convolution/convolution_tasks.h"
#include "nn/onednn/cpu.h"
#include "nn/planner.h"

namespace dcs3gd::nn {
namespace {

const char* name_of(ConvolutionCase::Direction direction) {
  switch (direction) {
    case ConvolutionCase::Direction::forward:
      return "forward";
    case ConvolutionCase::Direction::backward_data:
      return "backward data";
    case ConvolutionCase::Direction::backward_weights:
      return "backward weights";
  }
  return "";
}

constexpr std::string_view kDirect = ": direct";
constexpr std::string_view kWinograd = ": winograd";

/// The processor's name as Linux tells it.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  constexpr std::string_view kName = "model name\t: ";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kName)) return line.substr(kName.size());
  }
  return "unknown processor";
}

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

void measure_convolutions(const Graph& graph, int batch, Precision precision, ConvolutionChoices& choices) {
  const onednn::Device device;
  std::vector<ConvolutionTask> tasks = training_tasks(device, graph, batch, precision);
  for (ConvolutionTask& task : evaluation_tasks(device, graph, evaluation_range(batch), precision)) {
    tasks.push_back(std::move(task));
  }
  std::erase_if(tasks, [&](const ConvolutionTask& task) {
    return !task.convolution || task.candidates.size() < 2 || choices.knows(*task.convolution);
  });
  if (tasks.empty()) return;
  ConvolutionTaskRunner runner(device, tasks);
  for (const ConvolutionTask& task : tasks) {
    if (!choices.knows(*task.convolution)) choices.set(*task.convolution, runner.fastest(task).algorithm);
  }
}

std::string describe_machine() {
  return format("{}, {}, {} threads, oneDNN {}", processor(), instruction_set(), omp_get_max_threads(),
                onednn::version());
}

}  // namespace dcs3gd::nn
