#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/shape.h"

namespace dcs3gd {

/// What a slice of the arena is; weight decay depends on it (core/optim/momentum_sgd.h).
enum class ParameterKind {
  weight,      ///< weights of a convolution or linear layer
  bias,        ///< bias of a convolution or linear layer
  norm,        ///< scale or shift of a batch norm
  statistics,  ///< running mean or variance of a batch norm: state, not learned
};

/// One named tensor inside a flat array.
struct ParameterSlice {
  std::string name;  ///< torchvision's name, such as "layer1.0.conv1.weight"
  Shape shape;       ///< torchvision's shape: OIHW, OI or C
  ParameterKind kind = ParameterKind::weight;
  std::size_t offset = 0;                  ///< first element in the flat array
  std::size_t count = 0;                   ///< elements
  bool is_frozen = false;                  ///< keeps its values: has no gradient and no update
  double rate_factor = 1;                  ///< of the learning rate
  std::optional<float> weight_decay = {};  ///< in place of the optimizer's
};

/// The order, names and shapes of the tensors of a flat array: torchvision's order, plain layout, no gaps. Immutable
/// and shared by an arena and all its twins.
class ParameterLayout {
 public:
  /// Offsets and counts of the slices are filled in here. Throws Error{failure} for a name that stands twice.
  explicit ParameterLayout(std::vector<ParameterSlice> slices);

  const std::vector<ParameterSlice>& slices() const { return slices_; }
  std::size_t element_count() const { return element_count_; }
  /// The slice of this name, or nullptr.
  const ParameterSlice* find(std::string_view name) const;
  /// The slices that are frozen, or those that are not, as a layout of their own.
  std::shared_ptr<const ParameterLayout> part(bool is_frozen) const;

 private:
  std::vector<ParameterSlice> slices_;
  std::size_t element_count_ = 0;
};

/// A flat, zero-initialised float array with a layout. Weights, gradient, update and mean model are twins:
/// arenas of one layout, so that "update everything", "norm of the gradient" and "save" are one loop over one array.
class ParameterArena {
 public:
  explicit ParameterArena(std::shared_ptr<const ParameterLayout> layout);
  /// In memory of the caller: as many zeros as the layout has elements.
  ParameterArena(std::shared_ptr<const ParameterLayout> layout, std::shared_ptr<float> memory)
      : layout_(std::move(layout)), memory_(std::move(memory)) {}
  ParameterArena(ParameterArena&&) noexcept = default;
  ParameterArena& operator=(ParameterArena&&) noexcept = default;

  /// A twin with the same values.
  ParameterArena copy() const;

  const ParameterLayout& layout() const { return *layout_; }
  const std::shared_ptr<const ParameterLayout>& shared_layout() const { return layout_; }
  std::span<float> values() { return {memory_.get(), layout_->element_count()}; }
  std::span<const float> values() const { return {memory_.get(), layout_->element_count()}; }
  std::span<float> slice(const ParameterSlice& slice) { return values().subspan(slice.offset, slice.count); }
  std::span<const float> slice(const ParameterSlice& slice) const {
    return values().subspan(slice.offset, slice.count);
  }

 private:
  std::shared_ptr<const ParameterLayout> layout_;
  std::shared_ptr<float> memory_;
};

/// Copies the tensors that both have, by name.
void copy_tensors(const ParameterArena& from, ParameterArena& to);

}  // namespace dcs3gd
