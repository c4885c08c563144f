#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/plan/planner.h"

namespace dcs3gd::nn {

class Layer;

/// A planned sequence of operations with the tensors they work on, run over ranges of `range_images` images: the whole
/// batch in training, a part of it small enough for the cache in evaluation. Within such a range, consecutive
/// operations that need not see all its images form a stage: they run over smaller ranges, all of them over one after
/// the other, so that each finds in the cache what the one before it wrote. What only a stage touches is kept for a
/// range alone.
class Program {
 public:
  /// Forward, loss and backward of the planner's graph if it plans for training, else forward and loss.
  explicit Program(Planner planner);

  std::size_t memory_bytes() const { return memory_plan_bytes_; }
  /// Gives the planned tensors their places in `memory` and readies the operations. Called once.
  void bind(std::byte* memory);

  /// Where the caller puts the batch's images and the gradient before run().
  Tensor* input() const { return input_; }
  Tensor* logits() const { return logits_; }
  const std::vector<Tensor*>& gradients() const { return gradients_; }

  /// Runs over the first `images` images, rounded up to whole ranges.
  void run(int images);

  /// Adds the seconds of each kind of operation since the last reset to `times`.
  void add_times(std::vector<KindTime>& times) const;
  void reset_times();
  ConvolutionCount convolutions() const;

 private:
  struct PlannedLayer;
  struct Stage {
    int images;
    std::size_t first, end;  ///< operations
  };
  void plan_forward(Planner& planner, std::vector<PlannedLayer>& layers);
  void plan_backward(Planner& planner, std::vector<PlannedLayer>& layers);
  void plan_stages();
  void plan_memory();

  int range_images_;
  Tensor* input_ = nullptr;
  Tensor* logits_ = nullptr;
  Tensor* diff_logits_ = nullptr;
  onednn::Descriptor output_format_;  ///< of the last layer; the logits are plain
  std::vector<Tensor*> gradients_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<double> seconds_;  ///< by operation
  std::vector<Stage> stages_;
  std::vector<Tensor*> placed_;
  std::vector<std::size_t> offsets_;  ///< of placed_
  std::size_t memory_plan_bytes_ = 0;
};

}  // namespace dcs3gd::nn
