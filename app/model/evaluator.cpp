#include "app/model/evaluator.h"

#include <cmath>
#include <string_view>

#include "core/error.h"
#include "data/batch_loader.h"

namespace dcs3gd::app {
namespace {

/// Sums in the order of the ranks, in double: every rank gets the same.
nn::BatchResult sum_over_ranks(comm::Communicator& communicator, const nn::BatchResult& mine) {
  nn::BatchResult sum;
  for (const nn::BatchResult& part : communicator.gather(mine)) sum += part;
  return sum;
}

}  // namespace

Evaluator::Evaluator(comm::Communicator& communicator, nn::Network& network,
                     std::shared_ptr<const data::Dataset> dataset, const data::DataOptions& options, int loader_threads)
    : communicator_(communicator),
      network_(network),
      dataset_(std::move(dataset)),
      options_(options),
      loader_threads_(loader_threads) {}

Evaluation Evaluator::evaluate(const ParameterArena& weights, const ParameterArena& statistics,
                               const BatchDone& batch_done) {
  network_.set_weights(weights);
  network_.set_running_statistics(statistics);
  data::BatchLoader loader(dataset_, options_,
                           {.part = data::Part::eval,
                            .rank = communicator_.rank(),
                            .workers = communicator_.size(),
                            .batch_per_worker = network_.batch()},
                           loader_threads_);
  nn::BatchResult mine;
  while (const data::Batch* batch = loader.next()) {
    mine += network_.evaluate({batch->images.data(), batch->labels.data(), batch->count});
    if (batch_done) batch_done(*batch, network_.logits());
  }
  const nn::BatchResult sum = sum_over_ranks(communicator_, mine);
  if (sum.images == 0) {
    throw Error(ErrorKind::failure, "none of the evaluation images could be read; the log names them",
                ErrorScope::all_ranks);
  }
  if (!std::isfinite(sum.loss_sum)) {
    throw Error(
        ErrorKind::diverged,
        "the loss on the evaluation images is NaN or Inf: the weights are too large (lower optimizer.lr.base or "
        "warm up longer), or a running variance is negative",
        ErrorScope::all_ranks);
  }
  const auto images = static_cast<double>(sum.images);
  return {.top1 = static_cast<double>(sum.correct_top1) / images,
          .top5 = static_cast<double>(sum.correct_top5) / images,
          .loss = sum.loss_sum / images,
          .images = sum.images};
}

}  // namespace dcs3gd::app
