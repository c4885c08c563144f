#pragma once

#include <cstddef>
#include <span>

#include "core/optim/momentum_sgd.h"

/// How gradients become updates, for every rule: one family. m is the mean model, u a worker's own update, ū the mean
/// of all workers' updates, D = ū − u the distance from the worker's weights m + u to the mean model m + ū, all the
/// same in each formula but for the last line:
///
///   m ← m + ū
///   u ← r·(μ·ū − β·D) − η·(g̃ + wd·m)         r = η/η of the step before;  g̃: delay_compensation.h
///
/// The mean of the u follows momentum SGD exactly for every β, because the D of all workers sum to 0: no worker needs a
/// velocity of its own. β = μ is the local momentum of the paper (arXiv 1911.02516), since then μ·ū − β·D = μ·u; β = 0
/// is one velocity for all, the "local" prediction of SAPipe (Chen et al., NeurIPS 2022). What is fresh, that is
/// averaged before the gradient is computed, has D = 0, and its mean update comes from the mean gradient ḡ:
///
///   ū ← r·μ·ū − η·(ḡ + wd·m);   m ← m + ū
///
/// Nesterov's momentum is the same with other weights: the model moves by (1 + μ)·u − r·μ·ū, of which all workers know
/// the second part when u is formed. A slice with a factor of its own has η times that everywhere; r is the same.
///
/// One pass over memory each, on the caller's OpenMP team; results do not depend on its size.
namespace dcs3gd::optim {

/// The constants of the formula for one slice and one step.
struct UpdateFormula {
  float momentum = 0;      ///< r·μ
  float own_momentum = 0;  ///< r·β
  float learning_rate = 0;
  float weight_decay = 0;
  float reach = 1;       ///< weights move by reach·u …
  float known_part = 0;  ///< … − known_part·ū: 1 + μ and r·μ with Nesterov
};

/// The rates are those of the schedule, before the slice's factor. `previous_rate`: the η that the ū at hand was made
/// with, 0 before the first step.
UpdateFormula update_formula(const ParameterSlice& slice, const MomentumSgdOptions& options, float own_momentum,
                             double learning_rate, double previous_rate);
/// How far weights move for an update: 1, with Nesterov 1 + μ.
float reach_of(const MomentumSgdOptions& options);

/// What the delay compensation makes of a gradient: g̃ = g + share·g, where share is λ·g·D, per element, kept within
/// ± bound, and `common` for all elements.
struct Correction {
  float lambda = 0;
  float common = 0;
  float bound = 0;  ///< infinity: none
};

/// One worker's arrays of a slice.
struct WorkerArrays {
  const float* gradient;
  float* update;
  Correction correction;
};

/// Forms the updates of the K workers of a rank after their gradients. `mean_update` is ū; `update_sum`, which may be
/// the same memory, becomes the sum of the workers' updates, `local_weights` the weights of the first worker, whose
/// turn is next. `has_arrived`: ū has been added to m before (and then every u must be ū). With `only_news` the sum is
/// of what the other ranks do not know, u − r·μ·ū, in other memory: receive_news() makes the next ū of its mean.
void form_updates(const UpdateFormula& formula, std::span<const WorkerArrays> workers, bool has_arrived,
                  float* mean_weights, const float* mean_update, float* update_sum, float* local_weights,
                  std::size_t count, bool only_news = false);

/// ū ← r·μ·ū + the mean of the news
void receive_news(const UpdateFormula& formula, std::span<const float> mean_news, std::span<float> mean_update);

/// The fresh form, in place: ū and m from the mean gradient times `scale`.
void apply_mean_gradient(const UpdateFormula& formula, float scale, std::span<const float> mean_gradient,
                         std::span<float> mean_weights, std::span<float> mean_update);

/// weights = m + reach·u
void add_update(std::span<const float> mean_weights, float reach, std::span<const float> update,
                std::span<float> weights);

}  // namespace dcs3gd::optim
