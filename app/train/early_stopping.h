#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "app/config/configuration.h"

namespace dcs3gd::app {

/// Says when a run ends because its evaluations do not improve any more. All ranks know the same evaluations, so all
/// of them say the same.
class EarlyStopping {
 public:
  /// `saved`: numbers of a checkpoint, among which may be those of save().
  EarlyStopping(const EarlyStoppingConfiguration& options, const std::map<std::string, double>& saved);

  /// Takes note of an evaluation.
  void note(double top1);
  bool is_over() const { return options_.patience_evaluations && without_gain_ >= *options_.patience_evaluations; }
  /// In words.
  std::string why() const;
  /// Adds what it knows to the numbers of a checkpoint.
  void save(std::map<std::string, double>& numbers) const;

 private:
  EarlyStoppingConfiguration options_;
  std::optional<double> best_;     ///< top-1 of the last gain
  std::int64_t without_gain_ = 0;  ///< evaluations since
};

}  // namespace dcs3gd::app
