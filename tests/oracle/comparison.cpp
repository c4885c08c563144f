#include "tests/oracle/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kForwardTolerance = 1e-5;
constexpr double kBackwardTolerance = 1e-4;
/// Five updates round a weight five times, each time by half a unit in the last place at most.
constexpr double kWeightRounding = 0x1p-22;
/// The gradient of a bias is a sum that may all but vanish, computed from the same numbers as that of the weights.
constexpr double kCancellation = 3e-5;
/// Numbers of the recordings have nine digits.
constexpr double kTextTolerance = 1e-8;

/// What is allowed of one kind of result.
struct Tolerance {
  std::string_view kind;
  double relative;        ///< of the result's size
  double background = 0;  ///< of the size of what the result was computed from: a line "background.<name>"
  bool is_sketch = true;  ///< norm and signed sums, not plain numbers
};

constexpr std::array<Tolerance, 7> kTolerances{{
    {.kind = "learning_rates", .relative = kTextTolerance, .is_sketch = false},
    {.kind = "losses", .relative = kForwardTolerance, .is_sketch = false},
    {.kind = "evaluation", .relative = kForwardTolerance, .is_sketch = false},
    {.kind = "logits", .relative = kForwardTolerance},
    {.kind = "statistics", .relative = kForwardTolerance},
    {.kind = "gradient", .relative = kBackwardTolerance, .background = kCancellation},
    {.kind = "change", .relative = kBackwardTolerance, .background = kWeightRounding},
}};

std::string_view kind_of(std::string_view name) { return name.substr(0, name.find('.')); }

const Tolerance& tolerance_of(std::string_view name) {
  const auto found = std::ranges::find(kTolerances, kind_of(name), &Tolerance::kind);
  if (found == kTolerances.end()) throw Error(ErrorKind::input, format("'{}' is no known kind of result", name));
  return *found;
}

double squared(double value) { return value * value; }

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += squared(value);
  return std::sqrt(sum);
}

/// The largest distance that is right for a result of size `scale`.
double allowed_distance(const Recording& expected, const std::string& name, double scale) {
  const Tolerance& tolerance = tolerance_of(name);
  const double relative = tolerance.relative * scale;
  return tolerance.background > 0 ? relative + tolerance.background * expected.lines().at("background." + name).front()
                                  : relative;
}

/// A sketch holds the norm, then signed sums. The mean square of the sums' differences estimates the squared norm of
/// the tensors' difference.
Deviation compare_sketches(const std::string& name, const std::vector<double>& expected,
                           const std::vector<double>& found) {
  double squares = 0;
  for (std::size_t i = 1; i < expected.size(); ++i) squares += squared(expected[i] - found[i]);
  const double difference = std::sqrt(squares / static_cast<double>(expected.size() - 1));
  return {name, std::hypot(difference, expected.front() - found.front()), expected.front()};
}

Deviation compare_numbers(const std::string& name, const std::vector<double>& expected,
                          const std::vector<double>& found) {
  std::vector<double> difference;
  std::ranges::transform(expected, found, std::back_inserter(difference), std::minus());
  return {name, norm(difference), norm(expected)};
}

Deviation compare_line(const Recording& recording, const std::string& name, const std::vector<double>& expected,
                       const std::vector<double>& found) {
  if (expected.size() != found.size()) return {name, kInfinity};
  Deviation deviation =
      tolerance_of(name).is_sketch ? compare_sketches(name, expected, found) : compare_numbers(name, expected, found);
  deviation.allowed = allowed_distance(recording, name, deviation.scale);
  return deviation;
}

bool is_result(std::string_view name) { return kind_of(name) != "setting" && kind_of(name) != "background"; }

}  // namespace

double Deviation::badness() const {
  if (is_right()) return allowed > 0 ? distance / allowed : 0;
  return std::isnan(distance) || !(allowed > 0) ? kInfinity : distance / allowed;
}

std::vector<Deviation> compare(const Recording& expected, const Recording& found) {
  std::vector<Deviation> deviations;
  for (const auto& [name, numbers] : expected.lines()) {
    if (!is_result(name)) continue;
    const auto other = found.lines().find(name);
    deviations.push_back(other == found.lines().end() ? Deviation{name, kInfinity}
                                                      : compare_line(expected, name, numbers, other->second));
  }
  for (const auto& [name, numbers] : found.lines()) {
    if (is_result(name) && !expected.lines().contains(name)) deviations.push_back({name, kInfinity});
  }
  return deviations;
}

std::vector<Deviation> compare_elements(const Recording& recording, const std::string& kind,
                                        const ParameterArena& before, const ParameterArena& expected,
                                        const ParameterArena& found) {
  std::vector<Deviation> deviations;
  for (const ParameterSlice& slice : expected.layout().slices()) {
    double distance = 0;
    double scale = 0;
    for (std::size_t i = slice.offset; i < slice.offset + slice.count; ++i) {
      const double value = expected.values()[i];
      distance += squared(found.values()[i] - value);
      scale += squared(value - before.values()[i]);
    }
    const std::string name = kind + "." + slice.name;
    deviations.push_back({name + " (elements)", std::sqrt(distance), std::sqrt(scale),
                          allowed_distance(recording, name, std::sqrt(scale))});
  }
  return deviations;
}

Deviation worst(const std::vector<Deviation>& deviations, const std::string& kind) {
  Deviation result;
  for (const Deviation& deviation : deviations) {
    const bool counts = kind.empty() || kind_of(deviation.name) == kind;
    if (counts && (result.name.empty() || deviation.badness() > result.badness())) result = deviation;
  }
  return result;
}

}  // namespace dcs3gd::oracle
