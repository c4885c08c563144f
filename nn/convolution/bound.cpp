#include "nn/convolution/bound.h"

#include "core/stopwatch.h"
#include "nn/convolution/tasks.h"

namespace dcs3gd::nn {

struct ConvolutionBound::Implementation {
  Implementation(const Graph& graph, int batch, Precision precision)
      : tasks(convolution_tasks(device, graph, batch, precision, true)), runner(device, tasks) {
    for (const ConvolutionTask& task : tasks) operations.push_back(std::move(runner.fastest(task).operations.front()));
  }

  onednn::Device device;
  std::vector<ConvolutionTask> tasks;
  ConvolutionTaskRunner runner;
  std::vector<std::unique_ptr<Operation>> operations;
};

ConvolutionBound::ConvolutionBound(const Graph& graph, int batch, Precision precision)
    : implementation_(std::make_unique<Implementation>(graph, batch, precision)) {}

ConvolutionBound::~ConvolutionBound() = default;

double ConvolutionBound::run() {
  const Stopwatch watch;
  for (const auto& operation : implementation_->operations) operation->run({});
  return watch.elapsed_s();
}

}  // namespace dcs3gd::nn
