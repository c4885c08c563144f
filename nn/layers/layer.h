#pragma once

#include <memory>
#include <vector>

#include "nn/graph/attributes.h"
#include "nn/graph/layer_kinds.h"
#include "nn/graph/layer_options.h"
#include "nn/plan/planner.h"

namespace dcs3gd::nn {

/// Carries a value from layer to layer on the way forward, or its gradient on the way back. The receiver must not
/// overwrite values that several layers read or that the backward pass of their own layer needs, the images, and the
/// two gradients of an addition, which share one tensor.
struct Flow {
  Tensor* tensor = nullptr;
  bool may_overwrite = true;
  Tensor* unadded = nullptr;  ///< second summand of this gradient, for a layer that adds_gradients(); null if none
};

/// Plans one layer: decides formats and primitives, appends the operations and remembers for backward what that needs
/// of forward. The operations do not refer to the layer, which ends with the planning.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Appends the forward operations and returns dst, which may be a src overwritten, where its flow allows that.
  virtual Flow plan_forward(Planner& planner, const std::vector<Flow>& src) = 0;
  /// Whether plan_backward() takes a diff_dst whose two parts are not added yet.
  virtual bool adds_gradients() const { return false; }
  /// Appends the backward operations: gradients of the parameters and, if `needs_diff_src`, of each src, in src's
  /// format and order. `diff_dst` has dst's format.
  virtual std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool needs_diff_src) = 0;
};

/// Appends diff_src = 0 where dst ≤ 0, else diff_dst, in place where it may, and returns diff_src: the gradient of what
/// ends in a ReLU. `dst` is of the forward pass.
Tensor* append_relu_backward(Planner& planner, const Node& node, const Flow& diff_dst, Tensor* dst);

/// Appends softmax cross-entropy over `logits`; in training it returns the gradient of the mean loss, else null.
/// Results go to the pass context.
Tensor* plan_loss(Planner& planner, Tensor* logits);

}  // namespace dcs3gd::nn
