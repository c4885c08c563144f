#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "app/rules/fresh_part.h"
#include "app/rules/gradient_buckets.h"
#include "app/rules/local_workers.h"
#include "app/rules/step_sums.h"
#include "app/rules/table.h"
#include "app/rules/waits.h"
#include "core/aligned_buffer.h"
#include "core/format.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/worker_update.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

/// Steps that are synchronous after the price of staleness was too high, and how the price is smoothed.
constexpr std::int64_t kGuardSteps = 50;
constexpr double kPriceMemory = 0.98;
constexpr int kUrgencyOfSums = -1;
/// Of a summand and of the sum, and what is given back of those of the step before.
constexpr int kRoundingsOfNarrowWire = 4;

optim::CompensationOptions compensation_of(const AlgorithmOptions& algorithm, comm::Wire wire, int workers) {
  return {.lambda0 = algorithm.lambda0,
          .lambda = algorithm.lambda,
          .lambda_max = algorithm.lambda_max,
          .workers = comm::is_narrow(wire) ? kRoundingsOfNarrowWire : workers,
          .rounding = comm::info_of(wire).rounding};
}

/// One that is averaged.
ParameterArena averaged_arena(const std::shared_ptr<const ParameterLayout>& layout, comm::Communicator& communicator) {
  return {layout, communicator.allocate(layout->element_count())};
}

std::vector<ParameterArena> arenas(const std::shared_ptr<const ParameterLayout>& layout, std::size_t count) {
  std::vector<ParameterArena> arenas;
  for (std::size_t i = 0; i < count; ++i) arenas.emplace_back(layout);
  return arenas;
}

/// Of which the first one is averaged.
std::vector<ParameterArena> gradient_arenas(const std::shared_ptr<const ParameterLayout>& layout, std::size_t count,
                                            comm::Communicator& communicator) {
  std::vector<ParameterArena> gradients;
  gradients.push_back(averaged_arena(layout, communicator));
  std::ranges::move(arenas(layout, count - 1), std::back_inserter(gradients));
  return gradients;
}

/// What a rule of this family keeps beside the mean model and the mean update.
struct Arrays {
  std::size_t gradients;
  std::size_t updates;
};

/// Workers with updates of their own need a gradient each; where nothing is stale theirs are summed one after the
/// other.
Arrays arrays_of(bool has_stale, int workers) {
  const auto count = static_cast<std::size_t>(workers);
  return has_stale ? Arrays{count, count} : Arrays{std::min<std::size_t>(count, 2), 0};
}

/// The family of momentum SGD that hides its all-reduces; its formulas are in core/optim/worker_update.h. The
/// parameters are two parts, by their place in the network:
///
///   stale  the first layers: a worker's update u travels while its next gradient is computed at m + u
///   fresh  the last layers, whose gradients are ready first and whose weights are needed last: their mean gradient
///          travels from its place in backward to its place in the next forward, and nothing of them is stale
///
/// All stale is DC-S3GD (arXiv 1911.02516), and with λ0 = 0 S3GD; all fresh is synchronous SGD. In a synchronous step
/// the stale part travels as the fresh one does. Steps of both kinds may follow each other in any order.
class OverlappedSgd final : public UpdateRule {
 public:
  OverlappedSgd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights)
      : parts_(parts),
        options_(options),
        local_(parts_, options_.algorithm),
        compensation_(compensation_of(
            options.algorithm,
            comm::wire_by(parts.communicator.algorithm_for(weights.layout().element_count()), options.wire),
            local_.total())),
        own_momentum_(static_cast<float>(options.algorithm.own_momentum.value_or(options.sgd.momentum))),
        reach_(optim::reach_of(options.sgd)),
        slices_(parts.network.parameter_layout()->slices()),
        first_fresh_(first_fresh_slice(weights.layout(), options.algorithm.fresh.value_or(1))),
        first_in_buckets_(options.overlap_from_step > 0 || options.algorithm.staleness_limit ? 0 : first_fresh_),
        mean_weights_(std::move(weights)),
        mean_update_(averaged_arena(mean_weights_.shared_layout(), parts.communicator)),
        gradients_(gradient_arenas(mean_weights_.shared_layout(), arrays_of(has_stale(), local_.count()).gradients,
                                   parts.communicator)),
        updates_(arenas(mean_weights_.shared_layout(), arrays_of(has_stale(), local_.count()).updates)),
        losses_(arenas(mean_weights_.shared_layout(), comm::is_narrow(options.wire) ? 1 : 0)),
        news_(comm::is_narrow(options.wire) && has_stale() ? parts.communicator.allocate(stale_elements()) : nullptr),
        sums_plan_(parts.communicator.plan_all_reduce(
            {.values = {}, .tail = travelling_sums_.as_span(), .urgency = kUrgencyOfSums})),
        buckets_(parts.communicator, gradients_.front(),
                 {.slices = {first_in_buckets_, slices_.size()},
                  .cut = first_fresh_,
                  .factor = mean_factor(),
                  .leaves_parts = true,
                  .losses = losses()}),
        updates_plan_(
            parts.communicator.plan_all_reduce({.values = travelling_updates(),
                                                .factor = mean_factor(),
                                                .leaves_parts = true,
                                                .urgency = static_cast<int>(slices_.size()),
                                                .losses = losses().first(losses().empty() ? 0 : stale_elements())})),
        fresh_share_(options.algorithm.fresh.value_or(1)),
        slice_along_(first_fresh_),
        squared_norms_(static_cast<std::size_t>(local_.count())),
        mean_squared_norms_(slices_.size()),
        slice_norms_(first_fresh_),
        slice_corrections_(updates_.size() * first_fresh_),
        slice_workers_(updates_.size()),
        local_weights_(std::ranges::max(slices_, {}, &ParameterSlice::count).count) {
    if (has_stale() && options_.algorithm.worker == WorkerKind::host) {
      host_buckets_.emplace(parts_.communicator, gradients_.front(),
                            GradientBuckets::Options{.slices = {0, first_fresh_},
                                                     .factor = 1 / static_cast<float>(parts_.communicator.ranks_here()),
                                                     .group = comm::Group::host});
    }
    parts_.network.set_weights(mean_weights_);
  }

  /// g = ∇l at m + u, or at m of the fresh part, which arrives layer by layer before it is needed. All K gradients come
  /// before the wait for ū, so that its all-reduce overlaps with all of them.
  void compute_gradients(std::int64_t step, const BatchSource& next_batch) override {
    const trace::Span span("compute", "gradient");
    const Stopwatch watch;
    report_ = {.step = step};
    sums_ = {};
    const double waited_ms = waits_.wait_ms();  // in a drain since the step before
    std::ranges::fill(squared_norms_, 0.0);
    sends_updates_ = has_stale() && is_overlapped(step + 1);
    if (!sends_updates_ && !is_settled_) forget_losses();
    if (clips_mean()) receive_fresh();
    for (int k = 0; k < local_.count(); ++k) {
      if (k > 0) load_weights_of(k);
      const auto on_weights_needed = [this](const ParameterSlice& slice) { receive_fresh(number_of(slice)); };
      const auto on_gradient_ready = [this, k](const ParameterSlice& slice) { gradient_ready(k, number_of(slice)); };
      sums_.loss += static_cast<float>(
          local_.compute_gradient(step, k, next_batch, gradient(k), {on_weights_needed, on_gradient_ready}));
    }
    parts_.running_statistics.advance();
    report_.compute_ms = watch.elapsed_ms() - (waits_.wait_ms() - waited_ms);
  }

  /// ū = wait()
  std::optional<StepReport> receive() override {
    receive_updates();
    receive_sums();
    return take_completed();
  }

  void update_and_send(double learning_rate, const Tail& tail) override {
    receive_host_means();
    const Stopwatch watch;
    previous_rate_ = std::exchange(learning_rate_, learning_rate);
    report_.learning_rate = learning_rate;
    heed_price();
    if (sends_updates_) begin_at_mean();
    for (int k = 0; k < local_.count(); ++k) finish_gradient(k);
    if (is_gradient_held()) send_held_gradients();
    if (sends_updates_) {
      form_updates();
      send_updates();
    } else if (!is_settled_) {
      settle();
    }
    send_sums(tail);
    report_.compute_ms += watch.elapsed_ms();
    report_.wait_ms = waits_.wait_ms();
    report_.all_reduce_ms = waits_.all_reduce_ms();
    report_.step_ms = report_.compute_ms + report_.wait_ms;
    waits_ = {};
    sent_ = report_;
  }

  std::span<const float> shared_weights() const override { return mean_weights_.values(); }

  std::vector<StepReport> drain() override {
    receive_updates();
    receive_sums();
    receive_fresh();
    const std::optional<StepReport> report = take_completed();
    return report ? std::vector{*report} : std::vector<StepReport>();
  }

  void copy_mean_model(ParameterArena& mean_model) const override {
    std::ranges::copy(mean_weights_.values(), mean_model.values().begin());
    if (is_settled_) return;
    for_each_part_of_mean_update(0, stale_elements(), [&](std::size_t first, std::span<const float> mean_update) {
      const std::size_t count = mean_update.size();
      optim::add_update(mean_weights_.values().subspan(first, count), reach_, mean_update,
                        mean_model.values().subspan(first, count));
    });
  }

  void load_network() override {
    parts_.network.set_weights(mean_weights_);
    load_weights_of(0);
  }

  std::vector<TensorPrice> prices_by_tensor() const override {
    std::vector<TensorPrice> prices;
    prices.reserve(first_fresh_);
    const double mean = stale_gradients_ > 0 ? 1 / static_cast<double>(stale_gradients_) : 0;
    for (std::size_t index = 0; index < first_fresh_; ++index) {
      prices.push_back({slices_[index].name, -0.5 * mean * slice_along_[index]});
    }
    return prices;
  }

  RuleState state() override {
    RuleState state{.numbers = {{kFreshShare, &fresh_share_},
                                {"learning_rate", &learning_rate_},
                                {"updates_in_flight", &updates_in_flight_},
                                {"price", &price_},
                                {"smooth_price", &smooth_price_},
                                {"synchronous_until", &synchronous_until_}},
                    .shared = {{"mean_weights", &mean_weights_, OnResize::restart}},
                    .workers = std::vector<std::vector<StateArray>>(static_cast<std::size_t>(local_.count()))};
    updates_in_flight_ = is_settled_ ? 0 : 1;
    if (!losses_.empty()) state.rank.push_back({"losses", &losses_.front(), OnResize::restart});
    if (!has_stale()) {
      state.shared.push_back({"update", &mean_update_, OnResize::average});
      return state;
    }
    for (std::size_t k = 0; k < updates_.size(); ++k) {
      // Of what is not stale now every worker has the mean.
      const std::size_t first = is_settled_ ? 0 : stale_elements();
      std::ranges::copy(mean_update_.values().subspan(first), updates_[k].values().subspan(first).begin());
      state.workers[k].push_back({"update", &updates_[k], OnResize::average});
    }
    if (!losses_.empty()) state.rank.push_back({"mean_update", &mean_update_, OnResize::restart});
    if (!is_settled_ && !sends_news()) updates_plan_.copy_back();
    state.mean.push_back({"update", &mean_update_, OnResize::average});
    return state;
  }

  /// The ū of updates in flight is not saved: it is their average, taken again in the same order. But on a narrow wire
  /// that average has lost something of its own.
  void state_loaded(Restored restored) override {
    is_settled_ = restored == Restored::mean || updates_in_flight_ == 0;
    if (has_stale() && (losses_.empty() || restored != Restored::all)) {
      std::ranges::copy(updates_.front().values(), mean_update_.values().begin());
      if (!is_settled_) average_updates();
    }
    load_network();
  }

 private:
  // --- what is where ---

  bool has_stale() const { return first_fresh_ > 0; }
  bool is_overlapped(std::int64_t step) const {
    return step >= options_.overlap_from_step && static_cast<double>(step) >= synchronous_until_;
  }
  /// ssgd clips the mean of the gradients, a worker with an update of its own its own gradient, whose slices then are
  /// held back until its norm is known.
  bool clips_mean() const { return !has_stale() && options_.algorithm.gradient_clip_norm; }
  bool is_gradient_held() const { return has_stale() && options_.algorithm.gradient_clip_norm; }
  /// Whether this slice of the gradients of this step leaves in an update.
  bool leaves_in_update(std::size_t slice) const { return sends_updates_ && slice < first_fresh_; }

  float mean_factor() const { return 1 / static_cast<float>(local_.total()); }
  std::size_t number_of(const ParameterSlice& slice) const { return static_cast<std::size_t>(&slice - slices_.data()); }
  ParameterArena& gradient(int k) { return gradients_[std::min(static_cast<std::size_t>(k), gradients_.size() - 1)]; }
  std::size_t stale_elements() const { return elements_before(mean_weights_.layout(), first_fresh_); }
  std::span<float> stale_part_of(ParameterArena& arena) const { return arena.values().first(stale_elements()); }
  std::span<const float> stale_part_of(const ParameterArena& arena) const {
    return arena.values().first(stale_elements());
  }

  /// Worker k's weights into the network, where they are not those of all.
  void load_weights_of(int k) {
    for (std::size_t index = 0; !is_settled_ && index < first_fresh_; ++index) {
      const std::span<float> local = local_weights_.span().first(slices_[index].count);
      optim::add_update(mean_weights_.slice(slices_[index]), reach_,
                        updates_[static_cast<std::size_t>(k)].slice(slices_[index]), local);
      parts_.network.set_weights(index, local);
    }
  }

  /// Calls use(how many elements after the first of these it begins, ū) for each part of ū of stale elements: it lies
  /// where it was averaged until m holds it.
  template <typename Use>
  void for_each_part_of_mean_update(std::size_t first, std::size_t count, const Use& use) const {
    if (is_settled_ || sends_news()) {
      use(0, mean_update_.values().subspan(first, count));
    } else {
      updates_plan_.for_each_part(first, count, use);
    }
  }
  template <typename Use>
  void for_each_part_of_mean_update(const ParameterSlice& slice, const Use& use) const {
    for_each_part_of_mean_update(slice.offset, slice.count, use);
  }

  /// On a narrow wire only what the other ranks do not know, so that rounding acts on nothing else.
  bool sends_news() const { return news_ != nullptr; }
  std::span<float> travelling_updates() {
    return sends_news() ? std::span(news_.get(), stale_elements()) : stale_part_of(mean_update_);
  }
  std::span<float> losses() { return losses_.empty() ? std::span<float>() : losses_.front().values(); }

  /// Those of the stale part, where updates follow gradients there or gradients updates: they have other units. What is
  /// on its way still changes them.
  void forget_losses() {
    if (losses_.empty()) return;
    receive_updates();
    std::ranges::fill(stale_part_of(losses_.front()), 0.0F);
  }

  // --- what arrives ---

  void receive_updates() {
    if (!updates_ticket_) return;
    waits_.wait(updates_ticket_);
    // Of all slices r·μ is the same.
    if (!sends_news()) return;
    updates_plan_.for_each_part(0, stale_elements(), [&](std::size_t first, std::span<const float> mean_news) {
      optim::receive_news(formula_of(slices_.front()), mean_news,
                          mean_update_.values().subspan(first, mean_news.size()));
    });
  }

  /// ū of updates that are here: of one worker in mean_update_.
  void average_updates() {
    const std::span<float> sum = stale_part_of(mean_update_);
    for (const ParameterArena& update : std::span(updates_).subspan(1)) add(stale_part_of(update), sum);
    if (sends_news()) {
      parts_.communicator.plan_all_reduce({.values = sum, .factor = mean_factor(), .wire = comm::Wire::fp32})
          .start()
          .wait();
      return;
    }
    updates_ticket_ = updates_plan_.start();
    receive_updates();
    waits_ = {};
  }

  /// Throws if a gradient was not finite, before anything of it is in the model.
  void receive_sums() {
    if (!sums_ticket_) return;
    waits_.wait(sums_ticket_);
    throw_if_diverged(sent_.step, travelling_sums_, local_.total(), parts_.communicator.size(), options_.loss_limit);
    complete(sent_, travelling_sums_, local_.total());
    price_ = sent_.loss > 0 ? sent_.staleness_price / sent_.loss : 0;
    completed_ = sent_;
  }

  /// The report whose sums have arrived, once.
  std::optional<StepReport> take_completed() {
    if (completed_ && !has_stale()) completed_->gradient_norm = mean_scale_ * std::sqrt(mean_squared_norm());
    return std::exchange(completed_, std::nullopt);
  }

  /// The mean gradient of the bucket that holds this slice, if it is on its way, becomes part of the model.
  void receive_fresh(std::size_t slice) {
    if (slice < first_in_buckets_) return;
    if (buckets_.is_in_flight()) receive_sums();  // before the model changes
    const SliceRange arrived = buckets_.receive(slice, waits_);
    note_mean_norms(arrived);
    apply_mean_gradient(arrived);
  }

  /// All that is on its way.
  void receive_fresh() {
    if (clips_mean()) {
      receive_clipped();
      return;
    }
    for (std::size_t slice = first_in_buckets_; slice < slices_.size(); ++slice) receive_fresh(slice);
  }

  /// The whole mean gradient, before any of it becomes part of the model.
  void receive_clipped() {
    if (!buckets_.is_in_flight()) return;
    receive_sums();  // before the model changes
    for (std::size_t slice = 0; slice < slices_.size(); ++slice) note_mean_norms(buckets_.receive(slice, waits_));
    mean_scale_ = local_.clip_factor(mean_squared_norm());
    apply_mean_gradient({0, slices_.size()});
  }

  double mean_squared_norm() const {
    return std::accumulate(mean_squared_norms_.begin(), mean_squared_norms_.end(), 0.0);
  }

  void note_mean_norms(SliceRange arrived) {
    for (std::size_t index = arrived.first; !has_stale() && index < arrived.end; ++index) {
      mean_squared_norms_[index] = 0;
      buckets_.for_each_part(index, [&](std::size_t, std::span<const float> mean_gradient) {
        mean_squared_norms_[index] += squared_norm(mean_gradient);
      });
    }
  }

  /// ū ← r·μ·ū − η·(ḡ + wd·m), m ← m + ū, and m into the network.
  void apply_mean_gradient(SliceRange arrived) {
    for (std::size_t index = arrived.first; index < arrived.end; ++index) {
      const ParameterSlice& slice = slices_[index];
      buckets_.for_each_part(index, [&](std::size_t first, std::span<const float> mean_gradient) {
        const std::size_t count = mean_gradient.size();
        optim::apply_mean_gradient(formula_of(slice), static_cast<float>(mean_scale_), mean_gradient,
                                   mean_weights_.slice(slice).subspan(first, count),
                                   mean_update_.slice(slice).subspan(first, count));
      });
      parts_.network.set_weights(index, mean_weights_.slice(slice));
    }
  }

  optim::UpdateFormula formula_of(const ParameterSlice& slice) const {
    return optim::update_formula(slice, options_.sgd, own_momentum_, learning_rate_, previous_rate_);
  }

  // --- what leaves ---

  /// Backward has finished a slice of worker k's gradient.
  void gradient_ready(int k, std::size_t index) {
    if (leaves_in_update(index)) {
      if (host_buckets_) host_buckets_->slice_ready(index);
      return;
    }
    squared_norms_[static_cast<std::size_t>(k)] += squared_norm(gradient(k).slice(slices_[index]));
    if (!is_gradient_held()) send_gradient(k, index);
  }

  /// The sum over this rank's workers leaves with the last one.
  void send_gradient(int k, std::size_t index) {
    const ParameterSlice& slice = slices_[index];
    if (k > 0) add(gradient(k).slice(slice), gradients_.front().slice(slice));
    if (k + 1 == local_.count()) buckets_.slice_ready(index);
  }

  void send_held_gradients() {
    for (int k = 0; k < local_.count(); ++k) {
      for (std::size_t index = slices_.size(); index-- > 0;) {
        if (!leaves_in_update(index)) send_gradient(k, index);
      }
    }
  }

  /// Of the stale part the gradients' mean over the ranks of this host takes their place.
  void receive_host_means() {
    for (std::size_t index = 0; host_buckets_ && sends_updates_ && index < first_fresh_; ++index) {
      host_buckets_->receive(index, waits_);
    }
  }

  /// After synchronous steps D = 0: every worker's update is the mean.
  void begin_at_mean() {
    if (!is_settled_) return;
    forget_losses();
    for (ParameterArena& update : updates_) {
      std::ranges::copy(stale_part_of(mean_update_), stale_part_of(update).begin());
    }
  }

  /// Norms, clipping and λ of worker k; the norms see NaN and Inf before anything is applied.
  void finish_gradient(int k) {
    const trace::Span span("compute", "λ");
    optim::CompensationNorms norms = sends_updates_ ? compute_norms(k) : optim::CompensationNorms();
    const double squared = squared_norms_[static_cast<std::size_t>(k)] + norms.gradient;
    if (!std::isfinite(squared)) {
      local_.report_non_finite(report_.step, k);
      sums_.non_finite += 1;
      sums_.non_finite_model = std::isfinite(squared_norm(mean_weights_.values())) ? 0 : 1;
      return;
    }
    const double factor = is_gradient_held() ? local_.clip_factor(squared) : 1;
    if (factor != 1) {
      scale(static_cast<float>(factor), gradient(k).values());
      norms.scale_gradient(factor);
      for (optim::CompensationNorms& slice : slice_norms_) slice.scale_gradient(factor);
    }
    sums_.gradient_norm += static_cast<float>(factor * std::sqrt(squared));
    if (!sends_updates_) return;
    sums_.lambda += static_cast<float>(choose_corrections(k, norms));
    sums_.distance_norm += static_cast<float>(std::sqrt(norms.distance));
    sums_.distance_squared += static_cast<float>(norms.distance);
    sums_.along += static_cast<float>(norms.along);
    for (std::size_t index = 0; index < first_fresh_; ++index) slice_along_[index] += slice_norms_[index].along;
    ++stale_gradients_;
  }

  /// Fills slice_norms_ and returns their sum.
  optim::CompensationNorms compute_norms(int k) {
    optim::CompensationNorms total;
    const ParameterArena& update = updates_[static_cast<std::size_t>(k)];
    for (std::size_t index = 0; index < first_fresh_; ++index) {
      const ParameterSlice& slice = slices_[index];
      slice_norms_[index] = {};
      for_each_part_of_mean_update(slice, [&](std::size_t first, std::span<const float> mean_update) {
        const std::size_t count = mean_update.size();
        slice_norms_[index] += optim::compensation_norms(gradient(k).slice(slice).subspan(first, count), mean_update,
                                                         update.slice(slice).subspan(first, count));
      });
      slice_norms_[index].scale_updates(reach_);
      total += slice_norms_[index];
    }
    return total;
  }

  /// Fills worker k's part of slice_corrections_; returns its mean λ.
  double choose_corrections(int k, const optim::CompensationNorms& norms) {
    const AlgorithmOptions& algorithm = options_.algorithm;
    const double bound = algorithm.correction_bound.value_or(std::numeric_limits<double>::infinity());
    double lambda_sum = 0;
    for (std::size_t index = 0; index < first_fresh_; ++index) {
      const optim::CompensationNorms& scope = algorithm.lambda_norm == LambdaNorm::global ? norms : slice_norms_[index];
      const double lambda =
          report_.step < options_.lambda_until_step ? optim::compensation_lambda(scope, compensation_) : 0;
      optim::Correction correction{.bound = static_cast<float>(bound)};
      if (algorithm.correction == CorrectionForm::rank_one) {
        correction.common = static_cast<float>(std::clamp(lambda * scope.along, -bound, bound));
      } else {
        correction.lambda = static_cast<float>(lambda * reach_);
      }
      slice_corrections_[static_cast<std::size_t>(k) * first_fresh_ + index] = correction;
      lambda_sum += lambda;
    }
    return lambda_sum / static_cast<double>(first_fresh_);
  }

  /// m = m + ū, then every worker's u; their sum where ū was, or their news; m + u of the first worker into the
  /// network.
  void form_updates() {
    const trace::Span span("compute", "update");
    for (std::size_t index = 0; index < first_fresh_; ++index) {
      const ParameterSlice& slice = slices_[index];
      for_each_part_of_mean_update(slice, [&](std::size_t first, std::span<const float> mean_update) {
        const std::size_t begin = slice.offset + first;
        for (std::size_t k = 0; k < updates_.size(); ++k) {
          slice_workers_[k] = {gradients_[k].values().data() + begin, updates_[k].values().data() + begin,
                               slice_corrections_[k * first_fresh_ + index]};
        }
        optim::form_updates(formula_of(slice), slice_workers_, is_settled_, mean_weights_.values().data() + begin,
                            mean_update.data(), travelling_updates().data() + begin, local_weights_.data() + first,
                            mean_update.size(), sends_news());
      });
      parts_.network.set_weights(index, local_weights_.span().first(slice.count));
    }
    is_settled_ = false;
  }

  /// A rank with a gradient that is not finite sends zeros and its flag: all ranks stop at the next wait.
  void send_updates() {
    if (sums_.non_finite > 0) std::ranges::fill(travelling_updates(), 0.0F);
    updates_ticket_ = updates_plan_.start();
  }

  /// m = m + ū of the stale part, where no new updates follow: the next step is synchronous.
  void settle() {
    if (!sends_news()) updates_plan_.copy_back();
    optim::add_update(stale_part_of(mean_weights_), reach_, stale_part_of(mean_update_), stale_part_of(mean_weights_));
    is_settled_ = true;
  }

  void send_sums(const Tail& tail) {
    sums_.tail = tail;
    travelling_sums_ = sums_;
    mean_scale_ = 1;
    sums_ticket_ = sums_plan_.start();
  }

  /// The guard: too high a price of staleness makes the next steps synchronous, on all ranks alike.
  void heed_price() {
    smooth_price_ = kPriceMemory * smooth_price_ + (1 - kPriceMemory) * price_;
    const auto step = static_cast<double>(report_.step);
    if (!options_.algorithm.staleness_limit || step < synchronous_until_) return;
    if (smooth_price_ > *options_.algorithm.staleness_limit) synchronous_until_ = step + kGuardSteps;
  }

  const RuleParts parts_;
  const RuleOptions options_;
  LocalWorkers local_;
  const optim::CompensationOptions compensation_;
  const float own_momentum_;  ///< β
  const float reach_;
  const std::vector<ParameterSlice>& slices_;
  const std::size_t first_fresh_;       ///< slice
  const std::size_t first_in_buckets_;  ///< slice; those before always leave in updates

  ParameterArena mean_weights_;            ///< m, without the updates in flight; the same bits on all ranks
  ParameterArena mean_update_;             ///< ū of what is settled or fresh, else Σ u of this rank
  std::vector<ParameterArena> gradients_;  ///< g of each worker, in the first one its sum where it travels
  std::vector<ParameterArena> updates_;    ///< u of each worker; of fresh slices unused
  std::vector<ParameterArena> losses_;  ///< on a narrow wire one: what it has lost of this rank's gradients and updates
  bool is_settled_ = true;              ///< m holds ū of the stale part: no worker's weights are its own

  // What is on its way.
  std::shared_ptr<float> news_;  ///< on a narrow wire that of this rank; else Σ u is, in mean_update_
  StepSums travelling_sums_;
  comm::AllReducePlan sums_plan_;
  std::optional<comm::Ticket> sums_ticket_;
  GradientBuckets buckets_;
  std::optional<GradientBuckets> host_buckets_;
  comm::AllReducePlan updates_plan_;
  std::optional<comm::Ticket> updates_ticket_;

  // The step that is being made, and the one before.
  StepReport report_;
  StepSums sums_;
  Waits waits_;                 ///< since the last report
  bool sends_updates_ = false;  ///< the stale part leaves in updates
  StepReport sent_;             ///< whose sums are on their way
  std::optional<StepReport> completed_;

  // Numbers of the state.
  double fresh_share_;
  double learning_rate_ = 0;  ///< of the last step
  double previous_rate_ = 0;  ///< of the one before
  double updates_in_flight_ = 0;
  double price_ = 0;  ///< S / loss of the last step whose sums are here
  double smooth_price_ = 0;
  double synchronous_until_ = 0;  ///< step

  // Since the start: ⟨g, D⟩ by slice, summed over as many gradients.
  std::vector<double> slice_along_;
  std::int64_t stale_gradients_ = 0;

  // Scratch of a step.
  std::vector<double> squared_norms_;       ///< by worker, of what leaves as a gradient
  std::vector<double> mean_squared_norms_;  ///< by slice, of ḡ; where nothing is stale
  double mean_scale_ = 1;                   ///< that clips ḡ
  std::vector<optim::CompensationNorms> slice_norms_;
  std::vector<optim::Correction> slice_corrections_;  ///< by worker and slice
  std::vector<optim::WorkerArrays> slice_workers_;
  AlignedBuffer<float> local_weights_;  ///< m + u, one slice
};

ArrayCount arrays_of_stale(const AlgorithmOptions& options, comm::Wire wire) {
  const bool has_stale = options.fresh != 1.0;
  const Arrays arrays = arrays_of(has_stale, options.workers_per_rank);
  const std::size_t losses = comm::is_narrow(wire) ? 1 : 0;
  const std::size_t news = has_stale ? losses : 0;  // at most: of the stale part
  return {.all = 2 + arrays.gradients + arrays.updates + losses + news + local_worker_arrays(options),
          .saved_shared = has_stale ? 1U : 2U,
          .saved_per_worker = has_stale ? 1U : 0U,
          .saved_per_rank = losses + news};
}

AlgorithmOptions all_fresh(AlgorithmOptions options) {
  options.fresh = 1;
  return options;
}

ArrayCount arrays_of_ssgd(const AlgorithmOptions& options, comm::Wire wire) {
  return arrays_of_stale(all_fresh(options), wire);
}

std::string share_text(const std::optional<double>& fresh) { return fresh ? format("{:.3g}", *fresh) : "auto"; }

std::string settings_of_s3gd(const AlgorithmOptions& options) {
  return format("worker {}, own momentum {}, fresh {}", options.worker == WorkerKind::host ? "host" : "rank",
                options.own_momentum ? format("{:.3g}", *options.own_momentum) : "of the paper",
                share_text(options.fresh));
}

std::string settings_of_dc_s3gd(const AlgorithmOptions& options) {
  const std::string strength =
      options.lambda ? format("lambda {}", *options.lambda) : format("lambda0 {}", options.lambda0);
  return format("{}, norms of {}; {}", strength,
                options.lambda_norm == LambdaNorm::global ? "the whole model" : "each tensor",
                settings_of_s3gd(options));
}

std::string no_settings(const AlgorithmOptions& /*options*/) { return ""; }

std::unique_ptr<UpdateRule> make_dc_s3gd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  return std::make_unique<OverlappedSgd>(parts, options, std::move(weights));
}

std::unique_ptr<UpdateRule> make_s3gd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  RuleOptions without_correction = options;
  without_correction.algorithm.lambda0 = 0;
  without_correction.algorithm.lambda.reset();
  return make_dc_s3gd(parts, without_correction, std::move(weights));
}

std::unique_ptr<UpdateRule> make_ssgd(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  RuleOptions synchronous = options;
  synchronous.algorithm = all_fresh(options.algorithm);
  return make_dc_s3gd(parts, synchronous, std::move(weights));
}

}  // namespace

RuleInfo dc_s3gd_rule() {
  return {.name = "dc_s3gd",
          .help = "updates travel while the next gradient is computed, staleness is corrected",
          .settings = settings_of_dc_s3gd,
          .arrays = arrays_of_stale,
          .make = make_dc_s3gd};
}

RuleInfo s3gd_rule() {
  return {.name = "s3gd",
          .help = "dc_s3gd with lambda0 0",
          .settings = settings_of_s3gd,
          .arrays = arrays_of_stale,
          .make = make_s3gd};
}

RuleInfo ssgd_rule() {
  return {.name = "ssgd",
          .help = "synchronous SGD, whose gradients travel until the next forward pass needs them",
          .settings = no_settings,
          .arrays = arrays_of_ssgd,
          .make = make_ssgd};
}

}  // namespace dcs3gd::app
