#pragma once

#include <optional>
#include <span>

/// The delay compensation of DC-S3GD (Rigazzi, arXiv 1911.02516) on flat arrays. A worker i computed its gradient g at
/// its local weights m + u, where m is the mean model and u its own update, while the mean update ū was on its way.
/// With the distance D = ū − u from the local to the mean model, the gradient is corrected to first order:
///
///   g̃ = g + λ · g ⊙ g ⊙ D        λ = λ0 · ‖g‖ / ‖g ⊙ g ⊙ D‖  (eq. 17)
///
/// so that the correction always is λ0 of the gradient's norm, however small D is. With a constant λ it is that of
/// DC-ASGD (Zheng et al., arXiv 1609.08326). worker_update.h applies it.
namespace dcs3gd::optim {

/// Squared norms over a slice, or, added up, over the whole model. Sums are in double and in a fixed order.
struct CompensationNorms {
  double gradient = 0;  ///< ‖g‖²; NaN or Inf in g makes it non-finite
  double product = 0;   ///< ‖g ⊙ g ⊙ D‖²
  double distance = 0;  ///< ‖D‖²
  double update = 0;    ///< ‖u‖²
  double along = 0;     ///< ⟨g, D⟩: how the loss changes from the local to the mean model, to first order

  CompensationNorms& operator+=(const CompensationNorms& other);
  /// What the norms become when g is multiplied by `factor`.
  void scale_gradient(double factor);
  /// What they become when ū and u are.
  void scale_updates(double factor);
};

/// One pass over g, ū and u.
CompensationNorms compensation_norms(std::span<const float> gradient, std::span<const float> mean_update,
                                     std::span<const float> update);

/// Affects results.
struct CompensationOptions {
  double lambda0 = 0.2;
  std::optional<double> lambda;      ///< a constant in place of eq. 17
  std::optional<double> lambda_max;  ///< cap on λ: restores the limit of a constant λ for small distances
  int workers = 1;                   ///< N
  double rounding = 0x1p-23;         ///< ε of the format ū travelled in: 2⁻²³ for fp32, 2⁻⁸ for bf16
};

/// λ of eq. 17, or the constant; 0 where D is nothing but rounding (‖D‖ ≤ N·ε·‖u‖) or the quotient is not finite.
double compensation_lambda(const CompensationNorms& norms, const CompensationOptions& options);

}  // namespace dcs3gd::optim
