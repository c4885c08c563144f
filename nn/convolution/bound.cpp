#include "nn/convolution/bound.h"

#include "core/stopwatch.h"
#include "nn/convolution/tasks.h"
#include "nn/plan/planner.h"

namespace dcs3gd::nn {

struct ConvolutionBound::Implementation {
  Implementation(const Graph& graph, int batch, Precision precision, bool training)
      : ranges(training ? 1 : batch / evaluation_range(batch)),
        tasks(convolution_tasks(device, graph, batch / ranges, precision, training)),
        runner(device, tasks) {
    for (const ConvolutionTask& task : tasks) operations.push_back(runner.fastest(task).operation);
  }

  int ranges;
  onednn::Device device;
  std::vector<ConvolutionTask> tasks;
  ConvolutionTaskRunner runner;
  std::vector<std::unique_ptr<Operation>> operations;
};

ConvolutionBound::ConvolutionBound(const Graph& graph, int batch, Precision precision, bool training)
    : implementation_(std::make_unique<Implementation>(graph, batch, precision, training)) {}

ConvolutionBound::~ConvolutionBound() = default;

double ConvolutionBound::run() {
  const Stopwatch watch;
  for (int range = 0; range < implementation_->ranges; ++range) {
    for (const auto& operation : implementation_->operations) operation->run({});
  }
  return watch.elapsed_s();
}

}  // namespace dcs3gd::nn
