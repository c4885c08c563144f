#include "app/rules/update_algorithm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "app/rules/gradient_buckets.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/momentum_sgd.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

/// The numbers of a step that travel behind the reduced array: each rank puts in the sums over its workers and gets the
/// sums over all workers.
struct Extras {
  float loss = 0;
  float non_finite = 0;  ///< workers whose gradient was NaN or Inf
  float gradient_norm = 0;
  float lambda = 0;
  float distance_norm = 0;
  float stop_wanted = 0;        ///< ranks that want it
  float checkpoint_wanted = 0;  ///< ranks that want it
  float ready = 0;              ///< ranks that are

  std::span<float> as_span() { return {&loss, sizeof(Extras) / sizeof(float)}; }
};
static_assert(sizeof(Extras) == 8 * sizeof(float));

/// What the algorithms have in common: gradients of this rank's workers, and the end of a step.
class WorkersOfRank {
 public:
  explicit WorkersOfRank(const AlgorithmSurroundings& surroundings) : surroundings_(surroundings) {
    if (surroundings.algorithm.micro_batches > 1) part_gradient_.emplace(surroundings.network.parameter_layout());
  }

  /// K
  int count() const { return surroundings_.algorithm.workers_per_rank; }
  /// N
  int total() const { return count() * surroundings_.communicator.size(); }
  int number(int k) const { return surroundings_.communicator.rank() * count() + k; }

  /// Worker k's gradient on its next batch at the weights that the network holds, computed in as many parts as
  /// micro_batches asks for. Returns the batch's mean loss.
  double compute_gradient(std::int64_t step, int k, ParameterArena& gradient,
                          const nn::GradientReady& on_gradient_ready = {}) {
    const nn::BatchView batch = surroundings_.next_batch();
    const int parts = surroundings_.algorithm.micro_batches;
    nn::BatchResult result;
    for (int part = 0; part < parts; ++part) {
      const auto slice_ready = [&](const ParameterSlice& slice) {
        if (part > 0) add(part_gradient_->slice(slice), gradient.slice(slice));
        if (part + 1 < parts) return;
        if (parts > 1) scale(1.0F / static_cast<float>(parts), gradient.slice(slice));
        if (on_gradient_ready) on_gradient_ready(slice);
      };
      result +=
          surroundings_.network.compute_gradient(surroundings_.network.part_of(batch, part), {step, number(k), part},
                                                 part == 0 ? gradient : *part_gradient_, slice_ready);
      surroundings_.running_statistics.add(surroundings_.network.batch_statistics());
    }
    return result.loss_sum / static_cast<double>(result.images);
  }

  void add_wishes(Extras& extras) const {
    const RankWishes wishes = surroundings_.wishes();
    extras.stop_wanted += wishes.stop ? 1 : 0;
    extras.checkpoint_wanted += wishes.checkpoint ? 1 : 0;
    extras.ready += wishes.ready ? 1 : 0;
  }

  /// The factor that brings a gradient down to gradient_clip_norm, 1 if it is below or nothing is set.
  double clip_factor(double squared_norm) const {
    const std::optional<double> limit = surroundings_.algorithm.gradient_clip_norm;
    return limit && squared_norm > *limit * *limit ? *limit / std::sqrt(squared_norm) : 1;
  }

  void report_non_finite(std::int64_t step, int k) const {
    log::error(format("worker {} (rank {} on {}): the gradient of step {} is not finite", number(k),
                      surroundings_.communicator.rank(), surroundings_.communicator.host(), step + 1));
  }

  /// Throws Error{diverged} if a gradient was not finite or the loss is beyond its limit. The sums are the same on all
  /// ranks, so all of them stop at the same step.
  void check(std::int64_t step, const Extras& sums) const {
    if (sums.non_finite > 0 || !std::isfinite(sums.loss)) {
      throw Error(ErrorKind::diverged,
                  format("step {}: the loss or gradient of a worker is NaN or Inf; nothing of it was applied. Lower "
                         "optimizer.lr.base, warm up longer or set algorithm.gradient_clip_norm",
                         step + 1),
                  Extent::all_ranks);
    }
    const double loss = sums.loss / static_cast<double>(total());
    if (surroundings_.loss_limit && loss > *surroundings_.loss_limit) {
      throw Error(ErrorKind::diverged,
                  format("step {}: the loss is {:.4g}, above run.loss_limit = {:.4g}", step + 1, loss,
                         *surroundings_.loss_limit),
                  Extent::all_ranks);
    }
  }

  /// Completes the record with the means over all workers and hands it on.
  void report(StepRecord& record, const Extras& sums) const {
    const double mean = 1.0 / total();
    record.loss = mean * sums.loss;
    record.gradient_norm = mean * sums.gradient_norm;
    record.lambda = mean * sums.lambda;
    record.distance_norm = mean * sums.distance_norm;
    record.stop_wanted = sums.stop_wanted > 0;
    record.checkpoint_wanted = sums.checkpoint_wanted > 0;
    record.all_ready = sums.ready == static_cast<float>(surroundings_.communicator.size());
    surroundings_.on_step(record);
  }

 private:
  const AlgorithmSurroundings& surroundings_;
  std::optional<ParameterArena> part_gradient_;  ///< of the second and later parts of a batch
};

/// DC-S3GD (arXiv 1911.02516), and with λ0 = 0 S3GD: each worker's update travels while its next gradient is computed
/// at m + u, and the correction pays for the one step of staleness.
class DcS3gd final : public UpdateAlgorithm {
 public:
  DcS3gd(const AlgorithmSurroundings& surroundings, ParameterArena weights)
      : surroundings_(surroundings),
        workers_of_rank_(surroundings_),
        compensation_{
            .lambda0 = surroundings.algorithm.name == AlgorithmName::s3gd ? 0 : surroundings.algorithm.lambda0,
            .lambda_max = surroundings.algorithm.lambda_max,
            .workers = workers_of_rank_.total(),
            .rounding = surroundings.wire == comm::Wire::bf16 ? 0x1p-8 : 0x1p-23},
        slices_(weights.layout().slices()),
        mean_weights_(std::move(weights)),
        ring_(mean_weights_.shared_layout()),
        plan_(surroundings.communicator.plan_all_reduce({.values = ring_.values(),
                                                         .tail = travelling_extras_.as_span(),
                                                         .factor = 1 / static_cast<float>(workers_of_rank_.total())})),
        local_weights_(std::ranges::max(slices_, {}, &ParameterSlice::count).count),
        slice_norms_(slices_.size()) {
    for (int k = 0; k < workers_of_rank_.count(); ++k) workers_.emplace_back(mean_weights_.shared_layout());
    slice_workers_.resize(workers_.size());
    surroundings_.network.set_weights(mean_weights_);
  }

  void step(std::int64_t step, double learning_rate) override {
    const Stopwatch watch;
    StepRecord record{.step = step, .learning_rate = learning_rate};
    Extras extras;
    compute_gradients(step, extras);
    wait_for_mean_update(record);
    compute_lambdas(step, extras);
    apply_updates(learning_rate);
    workers_of_rank_.add_wishes(extras);
    start_all_reduce(extras);
    record.step_ms = watch.elapsed_ms();
    record.compute_ms = record.step_ms - record.wait_ms;
    pending_ = record;
  }

  void drain(ParameterArena& mean_model) override {
    finish_all_reduce();
    optim::add_update(mean_weights_.values(), ring_.values(), mean_model.values());
  }

  void resume() override { set_local_weights(workers_.front()); }

  AlgorithmState state() override {
    AlgorithmState state{.shared = {{"mean_weights", &mean_weights_}}};
    for (Worker& worker : workers_)
      state.workers.push_back({{"velocity", &worker.velocity}, {"update", &worker.update}});
    return state;
  }

  /// ū is not saved: it is the average of the updates that are, taken again in the same order.
  void restart() override {
    std::ranges::copy(workers_.front().update.values(), ring_.values().begin());
    for (const Worker& worker : std::span(workers_).subspan(1)) add(worker.update.values(), ring_.values());
    plan_.start().wait();
    resume();
  }

 private:
  /// One worker's state.
  struct Worker {
    explicit Worker(const std::shared_ptr<const ParameterLayout>& layout)
        : gradient(layout), velocity(layout), update(layout), lambda(layout->slices().size()) {}

    ParameterArena gradient;    ///< g
    ParameterArena velocity;    ///< v
    ParameterArena update;      ///< u
    std::vector<float> lambda;  ///< by slice: all the same unless the norms are per tensor
  };

  /// g = ∇l(m + u), for all workers before the one wait: waiting at the first would hide only its part of the ring.
  void compute_gradients(std::int64_t step, Extras& extras) {
    const trace::Span span("compute", "gradient");
    for (int k = 0; k < workers_of_rank_.count(); ++k) {
      Worker& worker = workers_[static_cast<std::size_t>(k)];
      if (k > 0) set_local_weights(worker);
      extras.loss += static_cast<float>(workers_of_rank_.compute_gradient(step, k, worker.gradient));
    }
    surroundings_.running_statistics.advance();
  }

  void set_local_weights(const Worker& worker) {
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const std::span<float> local = local_weights_.span().first(slices_[index].count);
      optim::add_update(mean_weights_.slice(slices_[index]), worker.update.slice(slices_[index]), local);
      surroundings_.network.set_weights(index, local);
    }
  }

  /// ū = wait(). What it costs here is communication that computing did not hide.
  void wait_for_mean_update(StepRecord& record) {
    const trace::Span span("compute", "wait");
    const Stopwatch watch;
    record.all_reduce_ms = finish_all_reduce();
    record.wait_ms = watch.elapsed_ms();
  }

  /// Returns what the all-reduce took; 0 if none was under way.
  double finish_all_reduce() {
    if (!ticket_) return 0;
    const double all_reduce_ms = std::exchange(ticket_, std::nullopt)->wait().all_reduce_ms;
    workers_of_rank_.check(pending_.step, travelling_extras_);
    workers_of_rank_.report(pending_, travelling_extras_);
    return all_reduce_ms;
  }

  /// λ = λ0 · ‖g‖ / ‖g ⊙ g ⊙ D‖ for every worker. The norms see NaN and Inf before anything is applied.
  void compute_lambdas(std::int64_t step, Extras& extras) {
    const trace::Span span("compute", "λ");
    for (int k = 0; k < workers_of_rank_.count(); ++k) {
      Worker& worker = workers_[static_cast<std::size_t>(k)];
      optim::CompensationNorms norms = compute_norms(worker);
      if (!std::isfinite(norms.gradient)) {
        workers_of_rank_.report_non_finite(step, k);
        extras.non_finite += 1;
        continue;
      }
      clip(worker, norms);
      const bool global = surroundings_.algorithm.lambda_norm == LambdaNorm::global;
      double lambda_sum = 0;
      for (std::size_t index = 0; index < slices_.size(); ++index) {
        const double lambda = optim::compensation_lambda(global ? norms : slice_norms_[index], compensation_);
        worker.lambda[index] = static_cast<float>(lambda);
        lambda_sum += lambda;
      }
      extras.lambda += static_cast<float>(lambda_sum / static_cast<double>(slices_.size()));
      extras.gradient_norm += static_cast<float>(std::sqrt(norms.gradient));
      extras.distance_norm += static_cast<float>(std::sqrt(norms.distance));
    }
  }

  /// Fills slice_norms_ and returns their sum.
  optim::CompensationNorms compute_norms(const Worker& worker) {
    optim::CompensationNorms total;
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const ParameterSlice& slice = slices_[index];
      slice_norms_[index] =
          optim::compensation_norms(worker.gradient.slice(slice), ring_.slice(slice), worker.update.slice(slice));
      total += slice_norms_[index];
    }
    return total;
  }

  void clip(Worker& worker, optim::CompensationNorms& norms) {
    const double factor = workers_of_rank_.clip_factor(norms.gradient);
    if (factor == 1) return;
    scale(static_cast<float>(factor), worker.gradient.values());
    norms.scale_gradient(factor);
    for (optim::CompensationNorms& slice : slice_norms_) slice.scale_gradient(factor);
  }

  /// m = m + ū; g̃ = g + λ·g⊙g⊙D and u = U(g̃) for every worker; the sum of the u into the ring; m + u of the first
  /// worker into the network.
  void apply_updates(double learning_rate) {
    const trace::Span span("compute", "update");
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const ParameterSlice& slice = slices_[index];
      for (std::size_t k = 0; k < workers_.size(); ++k) {
        Worker& worker = workers_[k];
        slice_workers_[k] = {worker.gradient.slice(slice).data(), worker.velocity.slice(slice).data(),
                             worker.update.slice(slice).data(), worker.lambda[index]};
      }
      optim::compensated_step(optim::momentum_rule(slice, surroundings_.sgd, learning_rate), slice_workers_,
                              mean_weights_.slice(slice).data(), ring_.slice(slice).data(), local_weights_.data(),
                              slice.count);
      surroundings_.network.set_weights(index, local_weights_.span().first(slice.count));
    }
  }

  /// A rank with a gradient that is not finite sends zeros and its flag: all ranks stop at the next wait.
  void start_all_reduce(const Extras& extras) {
    if (extras.non_finite > 0) std::ranges::fill(ring_.values(), 0.0F);
    travelling_extras_ = extras;
    ticket_ = plan_.start();
  }

  const AlgorithmSurroundings surroundings_;
  WorkersOfRank workers_of_rank_;
  const optim::CompensationOptions compensation_;
  const std::vector<ParameterSlice>& slices_;

  ParameterArena mean_weights_;  ///< m, without the updates under way; the same bits on all ranks
  ParameterArena ring_;          ///< Σ u of this rank goes in, ū comes out; the ring's while ticket_ is held
  Extras travelling_extras_;
  comm::AllReducePlan plan_;  ///< of these two
  std::optional<comm::Ticket> ticket_;
  std::vector<Worker> workers_;
  StepRecord pending_;  ///< of the step whose update is under way

  // Scratch of a step.
  AlignedBuffer<float> local_weights_;  ///< m + u, one slice
  std::vector<optim::CompensationNorms> slice_norms_;
  std::vector<optim::CompensatedWorker> slice_workers_;
};

/// Synchronous SGD: gradients are averaged, in buckets that travel while backward computes the rest.
class Ssgd final : public UpdateAlgorithm {
 public:
  Ssgd(const AlgorithmSurroundings& surroundings, ParameterArena weights)
      : surroundings_(surroundings),
        workers_of_rank_(surroundings_),
        weights_(std::move(weights)),
        gradient_(weights_.shared_layout()),
        sgd_(weights_.shared_layout(), surroundings.sgd),
        buckets_(surroundings.communicator, gradient_, 1 / static_cast<float>(workers_of_rank_.total())) {
    if (workers_of_rank_.count() > 1) further_gradient_.emplace(weights_.shared_layout());
    surroundings_.network.set_weights(weights_);
  }

  void step(std::int64_t step, double learning_rate) override {
    const Stopwatch watch;
    StepRecord record{.step = step, .learning_rate = learning_rate};
    Extras extras;
    sum_gradients(step, extras);
    workers_of_rank_.add_wishes(extras);
    average_gradient(extras, record);
    clip(extras);
    workers_of_rank_.check(step, extras);
    apply_update(learning_rate);
    record.step_ms = watch.elapsed_ms();
    record.compute_ms = record.step_ms - record.wait_ms;
    workers_of_rank_.report(record, extras);
  }

  void drain(ParameterArena& mean_model) override { std::ranges::copy(weights_.values(), mean_model.values().begin()); }

  void resume() override { surroundings_.network.set_weights(weights_); }

  AlgorithmState state() override {
    return {.shared = {{"mean_weights", &weights_}, {"velocity", &sgd_.velocity()}},
            .workers = std::vector<std::vector<StateArray>>(static_cast<std::size_t>(workers_of_rank_.count()))};
  }

  void restart() override { resume(); }

 private:
  /// The sum over this rank's workers; slices of the last worker's gradient complete it and leave at once.
  void sum_gradients(std::int64_t step, Extras& extras) {
    const trace::Span span("compute", "gradient");
    const int last = workers_of_rank_.count() - 1;
    for (int k = 0; k <= last; ++k) {
      ParameterArena& gradient = k == 0 ? gradient_ : *further_gradient_;
      const auto on_gradient_ready = [&](const ParameterSlice& slice) {
        if (k > 0) add(gradient.slice(slice), gradient_.slice(slice));
        if (k == last) buckets_.slice_ready(slice);
      };
      const double loss = workers_of_rank_.compute_gradient(step, k, gradient, on_gradient_ready);
      if (!std::isfinite(loss)) workers_of_rank_.report_non_finite(step, k);
      extras.loss += static_cast<float>(loss);
    }
    surroundings_.running_statistics.advance();
  }

  void average_gradient(Extras& extras, StepRecord& record) {
    const trace::Span span("compute", "wait");
    const Stopwatch watch;
    record.all_reduce_ms = buckets_.finish(extras.as_span());
    record.wait_ms = watch.elapsed_ms();
  }

  /// The average is the same on all ranks, and so is what is found in it.
  void clip(Extras& extras) {
    const double squared = squared_norm(gradient_.values());
    if (!std::isfinite(squared)) extras.non_finite = static_cast<float>(workers_of_rank_.total());
    const double factor = workers_of_rank_.clip_factor(squared);
    if (factor != 1) scale(static_cast<float>(factor), gradient_.values());
    extras.gradient_norm = static_cast<float>(factor * std::sqrt(squared) * workers_of_rank_.total());
  }

  void apply_update(double learning_rate) {
    const trace::Span span("compute", "update");
    ParameterArena& update = gradient_;  // takes its place
    sgd_.compute_update(gradient_, weights_, learning_rate, update);
    add(update.values(), weights_.values());
    surroundings_.network.set_weights(weights_);
  }

  const AlgorithmSurroundings surroundings_;
  WorkersOfRank workers_of_rank_;

  ParameterArena weights_;  ///< the same bits on all ranks
  ParameterArena gradient_;
  std::optional<ParameterArena> further_gradient_;  ///< of the second and later workers
  optim::MomentumSgd sgd_;
  GradientBuckets buckets_;
};

}  // namespace

std::unique_ptr<UpdateAlgorithm> make_update_algorithm(const AlgorithmSurroundings& surroundings,
                                                       ParameterArena weights) {
  if (surroundings.algorithm.name == AlgorithmName::ssgd)
    return std::make_unique<Ssgd>(surroundings, std::move(weights));
  return std::make_unique<DcS3gd>(surroundings, std::move(weights));
}

}  // namespace dcs3gd::app
