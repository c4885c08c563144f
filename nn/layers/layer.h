#pragma once

#include <memory>
#include <vector>

#include "nn/graph/attributes.h"
#include "nn/graph/layer_kinds.h"
#include "nn/graph/layer_options.h"
#include "nn/plan/planner.h"

namespace dcs3gd::nn {

/// A value on its way forward, or the gradient of one on its way back. Who receives an exclusive tensor may overwrite
/// it. Not exclusive are values that several layers read or that the backward pass of their own layer needs, the
/// images, and the two gradients of an addition, which share one tensor.
struct Handover {
  Tensor* tensor = nullptr;
  bool exclusive = true;
  Tensor* addend = nullptr;  ///< of a gradient: still to be added, by a layer that adds_gradients()
};

/// A layer while it is planned. It decides formats and primitives and appends its operations; what its backward needs
/// of its forward it remembers in between. The operations do not refer to the layer, which ends with the planning.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Appends the forward operations and returns dst, which may be an exclusive src overwritten.
  virtual Handover plan_forward(Planner& planner, const std::vector<Handover>& src) = 0;
  /// Whether plan_backward() takes a diff_dst that is still the sum of two.
  virtual bool adds_gradients() const { return false; }
  /// Appends the backward operations: gradients of the parameters and, if `needs_diff_src`, of each src, in src's
  /// format and order. `diff_dst` has dst's format.
  virtual std::vector<Handover> plan_backward(Planner& planner, Handover diff_dst, bool needs_diff_src) = 0;
};

/// Appends softmax cross-entropy over `logits`; in training it returns the gradient of the mean loss, else null.
/// Results go to the pass context.
Tensor* plan_loss(Planner& planner, Tensor* logits);

}  // namespace dcs3gd::nn
