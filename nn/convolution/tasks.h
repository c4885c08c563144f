#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/aligned_buffer.h"
#include "nn/graph/graph.h"
#include "nn/plan/convolution_choices.h"
#include "nn/plan/operation.h"

/// The convolutions and linear layers of a network by themselves, to be timed.
namespace dcs3gd::nn {

/// One direction of one layer: the ways to compute it, each in the formats oneDNN chooses.
struct ConvolutionTask {
  /// oneDNN's names for what it reads and writes.
  struct Arguments {
    int src, weights, dst, bias;
  };
  struct Candidate {
    ConvolutionAlgorithm algorithm;
    onednn::Planned planned;
  };

  Arguments arguments;
  std::optional<ConvolutionCase> convolution;  ///< none: a linear layer
  std::int64_t bias = 0;                       ///< elements; 0: none
  std::vector<Candidate> candidates;
};

/// All directions that a training pass over this many images computes, or an evaluation; `in_ranges`: for as many
/// images at a time as training takes, else for all at once.
std::vector<ConvolutionTask> convolution_tasks(const onednn::Device& device, const Graph& graph, int images,
                                               Precision precision, bool training, bool in_ranges = false);

/// Runs tasks on memory of its own. What is computed does not matter, so all share one block of memory for each role.
class ConvolutionTaskRunner {
 public:
  ConvolutionTaskRunner(const onednn::Device& device, const std::vector<ConvolutionTask>& tasks);

  /// The fastest candidate, ready to run as long as the runner lives.
  struct Fastest {
    ConvolutionAlgorithm algorithm = ConvolutionAlgorithm::direct;
    std::unique_ptr<Operation> operation;
  };
  Fastest fastest(const ConvolutionTask& task);

 private:
  std::unique_ptr<Operation> make_operation(const ConvolutionTask& task, const onednn::Planned& planned);
  Tensor* tensor(const onednn::Descriptor& desc, AlignedBuffer<std::byte>& memory);

  const onednn::Device& device_;
  AlignedBuffer<std::byte> src_, weights_, dst_, bias_, scratchpad_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
};

}  // namespace dcs3gd::nn
