#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "core/optim/momentum_rule.h"

/// The delay compensation of DC-S3GD (Rigazzi, arXiv 1911.02516) on flat arrays. A worker i computed its gradient g at
/// its local weights m + u, where m is the mean model and u its own update, while the mean update ū was on its way.
/// With the distance D = ū − u from the local to the mean model, the gradient is corrected to first order:
///
///   g̃ = g + λ · g ⊙ g ⊙ D        λ = λ0 · ‖g‖ / ‖g ⊙ g ⊙ D‖  (eq. 17)
///
/// so that the correction always is λ0 of the gradient's norm, however small D is.
namespace dcs3gd::optim {

/// Squared norms over a slice, or, added up, over the whole model. Sums are in double and in a fixed order.
struct CompensationNorms {
  double gradient = 0;  ///< ‖g‖²; NaN or Inf in g makes it non-finite
  double product = 0;   ///< ‖g ⊙ g ⊙ D‖²
  double distance = 0;  ///< ‖D‖²
  double update = 0;    ///< ‖u‖²

  CompensationNorms& operator+=(const CompensationNorms& other);
  /// What the norms become when g is multiplied by `factor`.
  void scale_gradient(double factor);
};

/// One pass over g, ū and u.
CompensationNorms compensation_norms(std::span<const float> gradient, std::span<const float> mean_update,
                                     std::span<const float> update);

/// Affects results.
struct CompensationOptions {
  double lambda0 = 0.2;
  std::optional<double> lambda_max;  ///< cap on λ: restores the limit of a constant λ for small distances
  int workers = 1;                   ///< N
  double rounding = 0x1p-23;         ///< ε of the format ū travelled in: 2⁻²³ for fp32, 2⁻⁸ for bf16
};

/// λ of eq. 17; 0 where D is nothing but rounding (‖D‖ ≤ N·ε·‖u‖) or the quotient is not finite.
double compensation_lambda(const CompensationNorms& norms, const CompensationOptions& options);

/// One worker's arrays of a slice and its λ.
struct CompensatedWorker {
  const float* gradient;
  float* velocity;
  float* update;
  float lambda;
};

/// The rest of a step for one slice of `count` elements and the K workers of a rank, in one pass over memory:
///
///   m ← m + ū;  for each worker: g̃ = g + λ·g⊙g⊙D, u ← U(g̃) with the decay taken from m;  mean_update ← Σ u
///
/// `mean_update` holds ū before and the sum of the workers' updates after. `local_weights` becomes m + u of the first
/// worker, whose turn is next.
void compensated_step(const MomentumRule& rule, std::span<const CompensatedWorker> workers, float* mean_weights,
                      float* mean_update, float* local_weights, std::size_t count);

/// local_weights = m + u
void add_update(std::span<const float> mean_weights, std::span<const float> update, std::span<float> local_weights);

}  // namespace dcs3gd::optim
