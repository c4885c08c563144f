#include "app/config/suggestion.h"

#include <algorithm>
#include <vector>

namespace dcs3gd::app {
namespace {

/// Longer words are no typos of ours, and comparing them takes time.
constexpr std::size_t kMaxWordLength = 100;

/// About one wrong letter in three: what a word is a typo of shares most of its letters.
std::size_t tolerance(std::string_view word) { return std::max<std::size_t>((word.size() + 1) / 3, 1); }

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // cost[i][j]: from the first i letters of a to the first j of b (optimal string alignment).
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates) {
  if (word.size() > kMaxWordLength) return {};
  std::optional<std::string> best;
  // Of a path, only the last word has to be recognised: the tolerance must not grow with the words before it.
  std::size_t limit = tolerance(word.substr(word.rfind('.') + 1));
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance > limit || (best && distance == limit)) continue;
    best = candidate;
    limit = distance;
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  const std::optional<std::string> best = nearest(word, candidates);
  return best ? ". Did you mean " + *best + "?" : "";
}

}  // namespace dcs3gd::app
