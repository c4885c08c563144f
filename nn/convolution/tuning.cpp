#include "nn/convolution/tuning.h"

#include <fstream>

#include <omp.h>

#include "core/format.h"
#include "core/simd.h"
#include "nn/convolution/tasks.h"
#include "nn/onednn/cpu.h"
#include "nn/plan/planner.h"

namespace dcs3gd::nn {
namespace {

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

void measure_convolutions(const Graph& graph, int batch, Precision precision, ConvolutionChoices& choices,
                          const std::function<void()>& before_each) {
  if (!supports(precision)) return;  // the network will say so
  const onednn::Device device;
  std::vector<ConvolutionTask> tasks = convolution_tasks(device, graph, batch, precision, true, true);
  for (ConvolutionTask& task : convolution_tasks(device, graph, evaluation_range(batch), precision, false)) {
    tasks.push_back(std::move(task));
  }
  std::erase_if(tasks, [&](const ConvolutionTask& task) {
    return !task.convolution || task.candidates.size() < 2 || choices.knows(*task.convolution);
  });
  if (tasks.empty()) return;
  ConvolutionTaskRunner runner(device, tasks);
  for (const ConvolutionTask& task : tasks) {
    before_each();
    if (!choices.knows(*task.convolution)) choices.set(*task.convolution, runner.fastest(task).algorithm);
  }
}

std::string describe_machine() {
  return format("{}, {}, {} threads, oneDNN {}, own Winograd in fp32 and bf16, {} loops", processor(),
                instruction_set(), omp_get_max_threads(), onednn::version(), kLoopsOfBuild);
}

}  // namespace dcs3gd::nn
