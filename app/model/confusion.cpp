#include "app/model/confusion.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "app/model/class_probabilities.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kMostMistakes = 3;  // of a class, in its line

std::string title(const std::vector<std::string>& names, std::size_t label) {
  const std::string name = class_name(names, label);
  return name.empty() ? format("class {}", label) : name;
}

}  // namespace

void Confusion::add(const data::Batch& batch, std::span<const float> logits) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
    const std::size_t taken_for = most_probable(logits.subspan(i * classes_, classes_), 1).front().label;
    ++counts_[static_cast<std::size_t>(batch.labels[i]) * classes_ + taken_for];
  }
}

/// Counts travel as digits that a float sums exactly: of 8 bits on up to 2^16 ranks. With everyone's counts at everyone
/// a thousand classes on a thousand ranks would be 8 GB.
void Confusion::sum(comm::Communicator& communicator) {
  constexpr int kDigitBits = 8;
  constexpr std::int64_t kDigit = std::int64_t{1} << kDigitBits;
  std::vector<std::int64_t> sums(counts_.size());
  std::vector<float> digits(counts_.size());
  std::int64_t most = std::ranges::max(communicator.gather(std::ranges::max(counts_)));
  for (int shift = 0; most > 0; shift += kDigitBits, most >>= kDigitBits) {
    std::ranges::transform(counts_, digits.begin(),
                           [&](std::int64_t count) { return static_cast<float>((count >> shift) % kDigit); });
    communicator.plan_all_reduce({.values = digits, .factor = 1.0F, .wire = comm::Wire::fp32}).start().wait();
    std::ranges::transform(sums, digits, sums.begin(), [&](std::int64_t sum, float digit) {
      return sum + (static_cast<std::int64_t>(digit) << shift);
    });
  }
  counts_ = std::move(sums);
}

std::int64_t Confusion::images_of(std::size_t label) const {
  const auto row = counts_.begin() + static_cast<std::ptrdiff_t>(label * classes_);
  return std::accumulate(row, row + static_cast<std::ptrdiff_t>(classes_), std::int64_t{0});
}

std::vector<std::string> Confusion::worst_classes(const std::vector<std::string>& names, std::size_t most) const {
  std::vector<std::size_t> labels;
  std::size_t width = 0;
  for (std::size_t label = 0; label < classes_; ++label) {
    if (images_of(label) > 0) labels.push_back(label);
  }
  const auto share = [&](std::size_t label) {
    return static_cast<double>(count(label, label)) / static_cast<double>(images_of(label));
  };
  std::ranges::stable_sort(labels, {}, share);
  labels.resize(std::min(most, labels.size()));
  for (const std::size_t label : labels) width = std::max(width, title(names, label).size());

  std::vector<std::string> lines;
  lines.reserve(labels.size());
  for (const std::size_t label : labels) {
    std::vector<std::size_t> mistakes;
    for (std::size_t other = 0; other < classes_; ++other) {
      if (other != label && count(label, other) > 0) mistakes.push_back(other);
    }
    std::ranges::stable_sort(mistakes, std::greater<>(), [&](std::size_t other) { return count(label, other); });
    mistakes.resize(std::min(kMostMistakes, mistakes.size()));
    std::string line =
        format("{:<{}}  {:6.2f} % of {}", title(names, label), width, 100 * share(label), images_of(label));
    for (const std::size_t other : mistakes) {
      line += format("{} {} ({})", other == mistakes.front() ? "; taken for" : ",", title(names, other),
                     count(label, other));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace dcs3gd::app
