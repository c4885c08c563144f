#pragma once

#include <string>
#include <vector>

#include "core/parameter_arena.h"
#include "tests/oracle/recording.h"

/// What is equal enough. The tolerances and their reasons stand in the README.
namespace dcs3gd::oracle {

/// How far a result is from the expected one.
struct Deviation {
  std::string name;  ///< starts with its kind: "gradient.conv1.weight"
  double distance = 0;
  double scale = 0;    ///< the size of what is expected
  double allowed = 0;  ///< the largest distance that is right

  bool is_right() const { return distance <= allowed; }
  /// For the order of deviations; beyond 1 is wrong, NaN is infinite.
  double badness() const;
};

/// All results of two runs, without settings. What stands in one only is infinitely far from the other.
std::vector<Deviation> compare(const Recording& expected, const Recording& found);

/// All tensors of two arrays, element by element: the norm of their difference beside the norm of the way from `before`
/// (zeros, or the weights before training) to what is expected. Tolerances are those of the recording of `expected`.
std::vector<Deviation> compare_elements(const Recording& recording, const std::string& kind,
                                        const ParameterArena& before, const ParameterArena& expected,
                                        const ParameterArena& found);

/// The worst of a kind ("gradient"), or of all if `kind` is empty.
Deviation worst(const std::vector<Deviation>& deviations, const std::string& kind = {});

}  // namespace dcs3gd::oracle
