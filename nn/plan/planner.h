#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/parameter_arena.h"
#include "nn/graph/graph.h"
#include "nn/plan/compute_weights.h"
#include "nn/plan/operation.h"
#include "nn/plan/pass.h"

namespace dcs3gd::nn {

/// Holds what changes from pass to pass: written by the network before a program runs, read by kernels.
struct PassContext {
  BatchView batch;
  PassIdentity identity;
  const PassHooks* hooks = nullptr;
  BatchResult result;
};

/// Images that evaluation takes through the network at a time: the largest divisor of the batch that keeps activations
/// in the cache.
int evaluation_range(int batch);

/// Images that a convolution of a training pass takes at a time, so that it and the batch norms around it find in the
/// caches what the one before wrote: a divisor of the batch. Depends on the caller's OpenMP team.
int training_range(int batch, const ConvolutionCase& convolution);

/// Everything a layer may use or ask for while a program is planned. Layers append operations in the order they run and
/// tensors as they need them; lifetimes follow from the operations.
class Planner {
 public:
  struct Surroundings {
    const Graph& graph;
    const onednn::Device& device;
    ComputeWeights& weights;
    PassContext& context;
    ParameterArena& running_statistics;
    ParameterArena& batch_statistics;
    const ParameterLayout& parameters;  ///< all of the graph
    const ParameterLayout& trained;     ///< those of them that are not frozen, as the caller knows them
    const NetworkOptions& options;
    int range_images;  ///< images of one run of an operation; divides the batch
    bool training;
  };

  explicit Planner(const Surroundings& surroundings) : surroundings_(surroundings) {}

  const Surroundings& surroundings() const { return surroundings_; }
  const onednn::Device& device() const { return surroundings_.device; }
  bool training() const { return surroundings_.training; }
  Precision precision() const { return surroundings_.options.precision; }
  /// The precision of what a convolution or linear layer writes: the logits are not rounded to bf16.
  Precision precision_of_dst(const Node& node) const {
    return node.dst == surroundings_.graph.output() ? Precision::fp32 : precision();
  }
  int range_images() const { return surroundings_.range_images; }
  bool runs_in_parts() const { return range_images() != surroundings_.options.batch; }

  /// A tensor of images; `desc` describes one range of them. It holds the whole batch if that is one range, else a
  /// range.
  Tensor* activation(std::string name, const onednn::Descriptor& desc);
  /// Returns `src` to be overwritten with another value if it may be, else a new activation of its format.
  Tensor* in_place_or_new(Tensor* src, bool may_overwrite, std::string name);
  /// A tensor that holds the images of the whole batch even if the program runs over it in ranges.
  Tensor* batch_activation(std::string name, const onednn::Descriptor& desc, Tensor::Memory memory);
  /// A tensor that does not belong to images.
  Tensor* temporary(std::string name, const onednn::Descriptor& desc);
  /// The tensor of a parameter in a primitive's format.
  Tensor* weights(std::size_t parameter, const onednn::Descriptor& plain, const onednn::Descriptor& desc);
  /// Whether a batch norm is frozen (Graph::set_training()).
  bool has_frozen_statistics(const Node& node) const;
  /// The tensor that the gradient of a parameter is written to, plain; of a frozen one nobody reads it.
  Tensor* gradient(std::size_t parameter, const onednn::Descriptor& plain);
  /// The tensor that a running statistic is read from.
  Tensor* running_statistic(std::size_t statistic);

  /// Both append operations over all images at once, unless the caller tells them otherwise.
  Operation& append(std::string name, std::string kind, onednn::Planned planned,
                    std::vector<PrimitiveOperation::Argument> arguments);
  Operation& append(std::string name, std::string kind, std::vector<Tensor*> tensors, KernelOperation::Kernel kernel);
  /// `src` in the format `desc`: itself, or a copy made by a reorder appended now.
  Tensor* in_format(Tensor* src, const onednn::Descriptor& desc);
  Operation& append_reorder(Tensor* src, Tensor* dst);

  /// Appends the operations that compute a value again into `dst`, a tensor of the value's format.
  using Recompute = std::function<void(Planner&, Tensor* dst)>;
  /// Lets backward compute `value` again from the values `from` (null: none there) instead of keeping it in memory:
  /// activation recomputation, or gradient checkpointing (Chen et al., arXiv 1604.06174). In a chain, where each value
  /// is computed from the one before, as the sums of residual blocks are, one value is kept after each seven that are
  /// recomputed: all values of a chain are in memory at once.
  void allow_recomputation(Tensor* value, Recompute recompute, const std::vector<Tensor*>& from);
  /// Returns a value of the forward pass for a reader in backward: itself if it is kept, else a tensor for this and all
  /// later readers, whose operations are appended at the first call.
  Tensor* kept_or_recomputed(Tensor* value);

  // Of frozen parameters nothing is announced.
  /// Announces that the compute weights of a parameter are read from here on.
  void append_weights_needed(std::size_t parameter);
  /// Announces a parameter's gradient as final.
  void append_gradient_ready(std::size_t parameter);

  /// Throws Error{failure} if the program runs over ranges: for operations that need all images at once.
  void require_whole_batch(const std::string& name) const;

  std::vector<std::unique_ptr<Tensor>> take_tensors() { return std::move(tensors_); }
  std::vector<std::unique_ptr<Operation>> take_operations() { return std::move(operations_); }
  /// The external tensors of the gradient by parameter; null where none was asked for.
  std::vector<Tensor*> gradient_tensors() const { return gradient_tensors_; }

 private:
  struct Recipe {
    Recompute recompute;
    int length = 0;  ///< of the longest chain of values that must be computed again for it, itself included
  };

  Tensor* add(std::string name, const onednn::Descriptor& desc, Tensor::Memory memory, Tensor::Extent extent);
  Operation& append(std::unique_ptr<Operation> operation);
  /// As the caller knows it; null for a frozen one.
  const ParameterSlice* trained_slice(std::size_t parameter) const;

  Surroundings surroundings_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<Tensor*> gradient_tensors_;
  std::map<Tensor*, Recipe> recipes_;  ///< of the values that backward computes again
  std::map<Tensor*, Tensor*> recomputed_;
};

}  // namespace dcs3gd::nn
