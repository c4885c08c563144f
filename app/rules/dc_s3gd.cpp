#include <algorithm>
#include <cmath>
#include <span>

#include "app/rules/exchange.h"
#include "app/rules/local_workers.h"
#include "app/rules/table.h"
#include "core/format.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/momentum_sgd.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

/// DC-S3GD (arXiv 1911.02516), and with λ0 = 0 S3GD: the average of the workers' updates u is in flight while each
/// computes its next gradient at m + u, and the correction pays for the one step of staleness.
class DcS3gd final : public UpdateRule {
 public:
  DcS3gd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights)
      : parts_(parts),
        options_(options),
        local_(parts_, options_.algorithm),
        compensation_{.lambda0 = options.algorithm.lambda0,
                      .lambda_max = options.algorithm.lambda_max,
                      .workers = local_.total(),
                      .rounding = options.wire == comm::Wire::bf16 ? 0x1p-8 : 0x1p-23},
        slices_(weights.layout().slices()),
        mean_weights_(std::move(weights)),
        exchange_(parts.communicator, mean_weights_.shared_layout(), local_.total()),
        local_weights_(std::ranges::max(slices_, {}, &ParameterSlice::count).count),
        slice_norms_(slices_.size()) {
    for (int k = 0; k < local_.count(); ++k) workers_.emplace_back(mean_weights_.shared_layout());
    slice_workers_.resize(workers_.size());
    parts_.network.set_weights(mean_weights_);
  }

  /// g = ∇l(m + u). All K gradients come before the wait, so the all-reduce overlaps with all of them.
  void compute_gradients(std::int64_t step, const BatchSource& next_batch) override {
    const trace::Span span("compute", "gradient");
    const Stopwatch watch;
    report_ = {.step = step};
    sums_ = {};
    for (int k = 0; k < local_.count(); ++k) {
      Worker& worker = workers_[static_cast<std::size_t>(k)];
      if (k > 0) load_weights_of(worker);
      sums_.loss += static_cast<float>(local_.compute_gradient(step, k, next_batch, worker.gradient));
    }
    parts_.running_statistics.advance();
    report_.compute_ms = watch.elapsed_ms();
  }

  /// ū = wait()
  std::optional<StepReport> receive() override {
    const trace::Span span("compute", "wait");
    if (!exchange_.is_in_flight()) return std::nullopt;
    const Stopwatch watch;
    report_.all_reduce_ms = exchange_.finish();
    report_.wait_ms = watch.elapsed_ms();
    return completed_report();
  }

  void update_and_send(double learning_rate, const Tail& tail) override {
    const Stopwatch watch;
    report_.learning_rate = learning_rate;
    compute_lambdas();
    apply_updates(learning_rate);
    send(tail);
    report_.compute_ms += watch.elapsed_ms();
    report_.step_ms = report_.compute_ms + report_.wait_ms;
    sent_ = report_;
  }

  std::vector<StepReport> drain() override {
    if (!exchange_.is_in_flight()) return {};
    exchange_.finish();
    return {completed_report()};
  }

  void copy_mean_model(ParameterArena& mean_model) const override {
    optim::add_update(mean_weights_.values(), exchange_.values().values(), mean_model.values());
  }

  void load_network() override { load_weights_of(workers_.front()); }

  RuleState state() override {
    RuleState state{.shared = {{"mean_weights", &mean_weights_, OnResize::restart}}};
    for (Worker& worker : workers_) {
      state.workers.push_back(
          {{"velocity", &worker.velocity, OnResize::average}, {"update", &worker.update, OnResize::restart}});
    }
    return state;
  }

  /// ū is not saved: it is the average of the updates that are, taken again in the same order.
  void state_loaded() override {
    ParameterArena& sum = exchange_.values();
    std::ranges::copy(workers_.front().update.values(), sum.values().begin());
    for (const Worker& worker : std::span(workers_).subspan(1)) add(worker.update.values(), sum.values());
    exchange_.start({});
    exchange_.finish();
    load_network();
  }

 private:
  /// One worker's arrays.
  struct Worker {
    explicit Worker(const std::shared_ptr<const ParameterLayout>& layout)
        : gradient(layout), velocity(layout), update(layout), lambda(layout->slices().size()) {}

    ParameterArena gradient;    ///< g
    ParameterArena velocity;    ///< v
    ParameterArena update;      ///< u
    std::vector<float> lambda;  ///< λ by slice: all the same unless the norms are per tensor
  };

  void load_weights_of(const Worker& worker) {
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const std::span<float> local = local_weights_.span().first(slices_[index].count);
      optim::add_update(mean_weights_.slice(slices_[index]), worker.update.slice(slices_[index]), local);
      parts_.network.set_weights(index, local);
    }
  }

  /// Of the step whose exchange has just ended.
  StepReport completed_report() {
    throw_if_diverged(sent_.step, exchange_.sums(), local_.total(), options_.loss_limit);
    complete(sent_, exchange_.sums(), local_.total());
    return sent_;
  }

  /// λ = λ0 · ‖g‖ / ‖g ⊙ g ⊙ D‖ for every worker. The norms see NaN and Inf before anything is applied.
  void compute_lambdas() {
    const trace::Span span("compute", "λ");
    for (int k = 0; k < local_.count(); ++k) {
      Worker& worker = workers_[static_cast<std::size_t>(k)];
      optim::CompensationNorms norms = compute_norms(worker);
      if (!std::isfinite(norms.gradient)) {
        local_.report_non_finite(report_.step, k);
        sums_.non_finite += 1;
        continue;
      }
      clip(worker, norms);
      const bool global = options_.algorithm.lambda_norm == LambdaNorm::global;
      double lambda_sum = 0;
      for (std::size_t index = 0; index < slices_.size(); ++index) {
        const double lambda = optim::compensation_lambda(global ? norms : slice_norms_[index], compensation_);
        worker.lambda[index] = static_cast<float>(lambda);
        lambda_sum += lambda;
      }
      sums_.lambda += static_cast<float>(lambda_sum / static_cast<double>(slices_.size()));
      sums_.gradient_norm += static_cast<float>(std::sqrt(norms.gradient));
      sums_.distance_norm += static_cast<float>(std::sqrt(norms.distance));
    }
  }

  /// Fills slice_norms_ and returns their sum.
  optim::CompensationNorms compute_norms(const Worker& worker) {
    optim::CompensationNorms total;
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const ParameterSlice& slice = slices_[index];
      slice_norms_[index] = optim::compensation_norms(worker.gradient.slice(slice), exchange_.values().slice(slice),
                                                      worker.update.slice(slice));
      total += slice_norms_[index];
    }
    return total;
  }

  void clip(Worker& worker, optim::CompensationNorms& norms) {
    const double factor = local_.clip_factor(norms.gradient);
    if (factor == 1) return;
    scale(static_cast<float>(factor), worker.gradient.values());
    norms.scale_gradient(factor);
    for (optim::CompensationNorms& slice : slice_norms_) slice.scale_gradient(factor);
  }

  /// m = m + ū; g̃ = g + λ·g⊙g⊙D and u = U(g̃) for every worker; the sum of the u where ū was; m + u of the first worker
  /// into the network.
  void apply_updates(double learning_rate) {
    const trace::Span span("compute", "update");
    for (std::size_t index = 0; index < slices_.size(); ++index) {
      const ParameterSlice& slice = slices_[index];
      for (std::size_t k = 0; k < workers_.size(); ++k) {
        Worker& worker = workers_[k];
        slice_workers_[k] = {worker.gradient.slice(slice).data(), worker.velocity.slice(slice).data(),
                             worker.update.slice(slice).data(), worker.lambda[index]};
      }
      optim::compensated_step(optim::momentum_rule(slice, options_.sgd, learning_rate), slice_workers_,
                              mean_weights_.slice(slice).data(), exchange_.values().slice(slice).data(),
                              local_weights_.data(), slice.count);
      parts_.network.set_weights(index, local_weights_.span().first(slice.count));
    }
  }

  /// A rank with a gradient that is not finite sends zeros and its flag: all ranks stop at the next wait.
  void send(const Tail& tail) {
    if (sums_.non_finite > 0) std::ranges::fill(exchange_.values().values(), 0.0F);
    sums_.tail = tail;
    exchange_.start(sums_);
  }

  const RuleParts parts_;
  const RuleOptions options_;
  LocalWorkers local_;
  const optim::CompensationOptions compensation_;
  const std::vector<ParameterSlice>& slices_;

  ParameterArena mean_weights_;  ///< m, without the update in flight; the same bits on all ranks
  Exchange exchange_;            ///< Σ u of this rank goes in, ū comes out
  std::vector<Worker> workers_;
  StepReport report_;  ///< of the step that is being made
  StepSums sums_;      ///< likewise
  StepReport sent_;    ///< of the step whose update is in flight

  // Scratch of a step.
  AlignedBuffer<float> local_weights_;  ///< m + u, one slice
  std::vector<optim::CompensationNorms> slice_norms_;
  std::vector<optim::CompensatedWorker> slice_workers_;
};

ArrayCount arrays(const AlgorithmOptions& options) {
  const auto workers = static_cast<std::size_t>(options.workers_per_rank);
  return {.all = 2 + 3 * workers + local_worker_arrays(options), .saved_shared = 1, .saved_per_worker = 2};
}

std::string settings(const AlgorithmOptions& options) {
  return format("lambda0 {}, norms of {}", options.lambda0,
                options.lambda_norm == LambdaNorm::global ? "the whole model" : "each tensor");
}

std::string no_settings(const AlgorithmOptions& /*options*/) { return ""; }

std::unique_ptr<UpdateRule> make_dc_s3gd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  return std::make_unique<DcS3gd>(parts, options, std::move(weights));
}

std::unique_ptr<UpdateRule> make_s3gd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  RuleOptions without_correction = options;
  without_correction.algorithm.lambda0 = 0;
  return make_dc_s3gd(parts, without_correction, std::move(weights));
}

}  // namespace

RuleInfo dc_s3gd_rule() {
  return {.name = "dc_s3gd",
          .help = "updates travel while the next gradient is computed, staleness is corrected",
          .hides_communication = true,
          .settings = settings,
          .arrays = arrays,
          .make = make_dc_s3gd};
}

RuleInfo s3gd_rule() {
  return {.name = "s3gd",
          .help = "dc_s3gd with lambda0 0",
          .hides_communication = true,
          .settings = no_settings,
          .arrays = arrays,
          .make = make_s3gd};
}

}  // namespace dcs3gd::app
