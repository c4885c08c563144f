#pragma once

#include <functional>
#include <map>
#include <vector>

namespace dcs3gd::nn {

class Planner;
class Tensor;

/// Decides which values of the forward pass backward computes again instead of keeping them in memory: activation
/// recomputation, or gradient checkpointing (Chen et al., arXiv 1604.06174). In a chain, where each value is computed
/// from the one before, as the sums of residual blocks are, one value is kept after each seven that are recomputed:
/// all values of a chain are in memory at once.
class Recomputation {
 public:
  /// Appends the operations that compute a value again into `dst`, a tensor of the value's format.
  using Compute = std::function<void(Planner&, Tensor* dst)>;

  /// Lets backward compute `value` again from the values `from` (null: none there) unless its chain is too long.
  void allow(Tensor* value, Compute compute, const std::vector<Tensor*>& from);
  /// Keeps what the tensor holds from now on: it is overwritten with another value.
  void forbid(Tensor* tensor) { recipes_.erase(tensor); }
  /// Returns the value itself if it is kept, else a tensor for this and all later readers, whose operations are
  /// appended to the planner at the first call.
  Tensor* kept_or_recomputed(Planner& planner, Tensor* value);

 private:
  struct Recipe {
    Compute compute;
    int length = 0;  ///< of the longest chain of values that must be computed again for it, itself included
  };
  std::map<Tensor*, Recipe> recipes_;
  std::map<Tensor*, Tensor*> recomputed_;
};

}  // namespace dcs3gd::nn
