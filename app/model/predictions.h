#pragma once

#include <optional>
#include <span>
#include <string>

#include "comm/communicator.h"
#include "core/files.h"
#include "data/batch.h"
#include "data/dataset.h"

namespace dcs3gd::app {

/// What a model says about each image of a data set, as CSV (RFC 4180) with a header line; a line for each image, in
/// the data set's order:
///
///   index         of the image, from 0
///   file          where it came from; empty where the data set has no files
///   label         the right class, from 0
///   label_name    its name; empty where the data set has no names
///   class1 …      the most probable class, the second, … up to class5, or all of them if there are fewer
///   name1 …       their names
///   probability1 …  theirs, 0 … 1
///
/// class, name and probability of a place stand side by side.
class PredictionFile {
 public:
  /// Collective. Rank 0 opens the OutputFile. Throws Error{input} with ErrorScope::all_ranks if it cannot.
  PredictionFile(comm::Communicator& communicator, const std::string& path, const data::Dataset& dataset);

  /// Collective: every rank's next batch of an evaluation, with its logits.
  void add(const data::Batch& batch, std::span<const float> logits);
  /// Collective: the file is there. Throws Error{failure} with ErrorScope::all_ranks if it cannot be written.
  void commit();

 private:
  comm::Communicator& communicator_;
  const data::Dataset& dataset_;
  std::optional<OutputFile> file_;  ///< rank 0's
  std::string lines_;               ///< rank 0's, to be written
};

/// The lines of a batch.
std::string prediction_lines(const data::Dataset& dataset, const data::Batch& batch, std::span<const float> logits);

}  // namespace dcs3gd::app
