#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "app/rules/gradient_buckets.h"
#include "app/rules/local_workers.h"
#include "app/rules/step_sums.h"
#include "app/rules/table.h"
#include "core/optim/momentum_sgd.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

/// Synchronous SGD: gradients are averaged, in buckets that travel while backward computes the rest.
class Ssgd final : public UpdateRule {
 public:
  Ssgd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights)
      : parts_(parts),
        options_(options),
        local_(parts_, options_.algorithm),
        weights_(std::move(weights)),
        gradient_(weights_.shared_layout()),
        sgd_(weights_.shared_layout(), options.sgd),
        buckets_(parts.communicator, gradient_, sums_.as_span(), 1 / static_cast<float>(local_.total())) {
    if (local_.count() > 1) further_gradient_.emplace(weights_.shared_layout());
    parts_.network.set_weights(weights_);
  }

  /// Adds up the gradients of this rank's workers; slices of the last worker's complete the sum and leave at once.
  void compute_gradients(std::int64_t step, const BatchSource& next_batch) override {
    const trace::Span span("compute", "gradient");
    const Stopwatch watch;
    report_ = {.step = step};
    sums_ = {};
    const int last = local_.count() - 1;
    for (int k = 0; k <= last; ++k) {
      ParameterArena& gradient = k == 0 ? gradient_ : *further_gradient_;
      const auto on_gradient_ready = [&](const ParameterSlice& slice) {
        if (k > 0) add(gradient.slice(slice), gradient_.slice(slice));
        if (k == last) buckets_.slice_ready(slice);
      };
      const double loss = local_.compute_gradient(step, k, next_batch, gradient, on_gradient_ready);
      if (!std::isfinite(loss)) local_.report_non_finite(step, k);
      sums_.loss += static_cast<float>(loss);
    }
    parts_.running_statistics.advance();
    report_.compute_ms = watch.elapsed_ms();
  }

  std::optional<StepReport> receive() override { return std::exchange(completed_, std::nullopt); }

  void update_and_send(double learning_rate, const Tail& tail) override {
    report_.learning_rate = learning_rate;
    sums_.tail = tail;
    average_gradient();
    const Stopwatch watch;
    clip();
    throw_if_diverged(report_.step, sums_, local_.total(), options_.loss_limit);
    apply_update(learning_rate);
    report_.compute_ms += watch.elapsed_ms();
    report_.step_ms = report_.compute_ms + report_.wait_ms;
    complete(report_, sums_, local_.total());
    completed_ = report_;
  }

  std::vector<StepReport> drain() override {
    const std::optional<StepReport> report = receive();
    return report ? std::vector{*report} : std::vector<StepReport>();
  }

  void copy_mean_model(ParameterArena& mean_model) const override {
    std::ranges::copy(weights_.values(), mean_model.values().begin());
  }

  void load_network() override { parts_.network.set_weights(weights_); }

  RuleState state() override {
    return {
        .shared = {{"mean_weights", &weights_, OnResize::average}, {"velocity", &sgd_.velocity(), OnResize::average}},
        .workers = std::vector<std::vector<StateArray>>(static_cast<std::size_t>(local_.count()))};
  }

  void state_loaded() override { load_network(); }

 private:
  void average_gradient() {
    const trace::Span span("compute", "wait");
    const Stopwatch watch;
    report_.all_reduce_ms = buckets_.finish();
    report_.wait_ms = watch.elapsed_ms();
  }

  /// The average is the same on all ranks, and so is what is found in it.
  void clip() {
    const double squared = squared_norm(gradient_.values());
    if (!std::isfinite(squared)) sums_.non_finite = static_cast<float>(local_.total());
    const double factor = local_.clip_factor(squared);
    if (factor != 1) scale(static_cast<float>(factor), gradient_.values());
    sums_.gradient_norm = static_cast<float>(factor * std::sqrt(squared) * local_.total());
  }

  void apply_update(double learning_rate) {
    const trace::Span span("compute", "update");
    ParameterArena& update = gradient_;  // takes its place
    sgd_.compute_update(gradient_, weights_, learning_rate, update);
    add(update.values(), weights_.values());
    parts_.network.set_weights(weights_);
  }

  const RuleParts parts_;
  const RuleOptions options_;
  LocalWorkers local_;

  ParameterArena weights_;  ///< the same bits on all ranks
  ParameterArena gradient_;
  std::optional<ParameterArena> further_gradient_;  ///< of the second and later workers
  optim::MomentumSgd sgd_;
  StepReport report_;                    ///< of the step that is being made
  StepSums sums_;                        ///< likewise
  GradientBuckets buckets_;              ///< of the gradient and the sums
  std::optional<StepReport> completed_;  ///< of the step before, until it is received
};

ArrayCount arrays(const AlgorithmOptions& options) {
  const std::size_t further_gradient = options.workers_per_rank > 1 ? 1 : 0;
  return {.all = 3 + further_gradient + local_worker_arrays(options), .saved_shared = 2, .saved_per_worker = 0};
}

std::string no_settings(const AlgorithmOptions& /*options*/) { return ""; }

std::unique_ptr<UpdateRule> make(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  return std::make_unique<Ssgd>(parts, options, std::move(weights));
}

}  // namespace

RuleInfo ssgd_rule() {
  return {.name = "ssgd",
          .help = "synchronous SGD",
          .hides_communication = false,
          .settings = no_settings,
          .arrays = arrays,
          .make = make};
}

}  // namespace dcs3gd::app
