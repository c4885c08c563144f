#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/model/safetensors.h"
#include "data/epoch_plan.h"

namespace dcs3gd::app {

/// manifest.json of a checkpoint: what it is a state of, and what its files must be. Written last, so a checkpoint with
/// a manifest is a whole one.
struct CheckpointManifest {
  /// Of the folder; grows when an older program could not read it. 1, of versions before 0.3, had velocities in place
  /// of updates, and no numbers of the rule; 2 did not know the best model's file.
  static constexpr int kFormat = 3;

  int format = kFormat;
  std::string version;  ///< of the program that wrote it
  data::Position position;
  int ranks = 1;
  int workers_per_rank = 1;
  int threads = 1;  ///< per rank
  std::string isa;
  std::string data_fingerprint;
  std::map<std::string, double> rule;             ///< the numbers of its state, and of early stopping
  std::vector<std::string> configuration;         ///< "key: value", app/config/configuration.h
  std::optional<std::int64_t> evaluated_at_step;  ///< of the last evaluation; none before the first
  std::optional<double> best_top1;
  std::optional<FileDigest> best_file;      ///< best.safetensors
  std::optional<double> final_top1;         ///< of that evaluation
  std::map<std::string, FileDigest> files;  ///< by name

  int workers() const { return ranks * workers_per_rank; }
  /// Whether the one worker is the mean of all that there were.
  bool is_of_mean_worker() const { return std::ranges::count(configuration, "checkpoint.workers: average") > 0; }
};

/// The text of the file. It carries its own checksum.
std::string to_text(const CheckpointManifest& manifest);

/// Throws Error{input} that says what is wrong for anything but the whole text as it was written.
CheckpointManifest parse_manifest(const std::string& text);

}  // namespace dcs3gd::app
