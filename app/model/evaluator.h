#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "comm/communicator.h"
#include "core/parameter_arena.h"
#include "data/batch.h"
#include "data/dataset.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// The result over a whole data set, the same on all ranks.
struct Evaluation {
  double top1 = 0;  ///< 0 … 1
  double top5 = 0;  ///< 0 … 1
  double loss = 0;  ///< mean cross-entropy, without label smoothing
  std::int64_t images = 0;
};

/// Evaluates on all ranks together; every image counts exactly once.
class Evaluator {
 public:
  Evaluator(comm::Communicator& communicator, nn::Network& network, std::shared_ptr<const data::Dataset> dataset,
            const data::DataOptions& options, int loader_threads);

  /// Called after each batch with its logits, on all ranks equally often, with empty batches too.
  using BatchDone = std::function<void(const data::Batch& batch, std::span<const float> logits)>;

  /// Collective. The network is left with these weights.
  Evaluation evaluate(const ParameterArena& weights, const ParameterArena& statistics,
                      const BatchDone& batch_done = {});

 private:
  comm::Communicator& communicator_;
  nn::Network& network_;
  std::shared_ptr<const data::Dataset> dataset_;
  const data::DataOptions& options_;
  int loader_threads_;
};

}  // namespace dcs3gd::app
