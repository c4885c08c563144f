#include "nn/plan/recomputation.h"

#include <algorithm>

#include "nn/plan/planner.h"

namespace dcs3gd::nn {

void Recomputation::allow(Tensor* value, Compute compute, const std::vector<Tensor*>& from) {
  // Where memory peaks depends on Winograd's scratch memory too: for ResNet-50 (chains of at most 7) it is best to keep
  // no sum, in deeper networks one of about seven.
  constexpr int kLongestChain = 7;
  int length = 1;
  for (Tensor* source : from) {
    const auto entry = recipes_.find(source);
    if (entry != recipes_.end()) length = std::max(length, entry->second.length + 1);
  }
  if (length <= kLongestChain) recipes_[value] = {std::move(compute), length};
}

Tensor* Recomputation::kept_or_recomputed(Planner& planner, Tensor* value) {
  const auto recipe = recipes_.find(value);
  if (recipe == recipes_.end()) return value;
  if (const auto entry = recomputed_.find(value); entry != recomputed_.end()) return entry->second;
  Tensor* again = planner.activation(value->name() + " again", value->desc());
  recipe->second.compute(planner, again);
  recomputed_[value] = again;
  return again;
}

}  // namespace dcs3gd::nn
