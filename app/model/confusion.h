#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/batch.h"

namespace dcs3gd::app {

/// What the images of each class are taken for: counts by label and by most probable class.
class Confusion {
 public:
  explicit Confusion(int classes) : classes_(static_cast<std::size_t>(classes)), counts_(classes_ * classes_) {}

  /// A batch of an evaluation, with its logits.
  void add(const data::Batch& batch, std::span<const float> logits);
  /// Collective: the sums over all ranks, on all of them.
  void sum(comm::Communicator& communicator);

  std::int64_t count(std::size_t label, std::size_t taken_for) const { return counts_[label * classes_ + taken_for]; }
  /// A line for each class that has images, the least often recognised first, at most `most`: its name, how many of its
  /// images are recognised, and what it is most often taken for instead.
  std::vector<std::string> worst_classes(const std::vector<std::string>& names, std::size_t most) const;

 private:
  std::int64_t images_of(std::size_t label) const;

  std::size_t classes_;
  std::vector<std::int64_t> counts_;
};

}  // namespace dcs3gd::app
