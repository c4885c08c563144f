#pragma once

#include "nn/plan/operation.h"

namespace dcs3gd::nn {

/// Our own reorders: copy the values of one tensor to another of another format, for what a step reorders most:
/// activations to another precision, gradients of weights from tiles to plain. oneDNN's take longer for them: 18 to 22
/// ms for the gradients of a step of ResNet-50, ours 12 to 18. Empty for all other pairs of formats, which are
/// oneDNN's. They run on the caller's OpenMP team.
KernelOperation::Kernel own_reorder(Tensor* src, Tensor* dst);

}  // namespace dcs3gd::nn
