#include "app/model/class_probabilities.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/format.h"

namespace dcs3gd::app {

std::vector<ClassProbability> most_probable(std::span<const float> logits, std::size_t count) {
  std::vector<std::size_t> all(logits.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const auto height = [&](std::size_t label) {
    return std::isnan(logits[label]) ? -std::numeric_limits<float>::infinity() : logits[label];
  };
  const auto is_above = [&](std::size_t a, std::size_t b) {
    return height(a) != height(b) ? height(a) > height(b) : a < b;
  };
  std::vector<std::size_t> labels(std::min(count, logits.size()));
  std::partial_sort_copy(all.begin(), all.end(), labels.begin(), labels.end(), is_above);

  const double top = logits[labels.front()];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  std::vector<ClassProbability> classes;
  classes.reserve(labels.size());
  for (const std::size_t label : labels) classes.push_back({label, std::exp(logits[label] - top) / sum});
  return classes;
}

std::string class_name(const std::vector<std::string>& names, std::size_t label) {
  return label < names.size() ? names[label] : "";
}

std::string csv_guess_header(std::size_t places) {
  std::string columns;
  for (std::size_t place = 1; place <= places; ++place) {
    columns += format(",class{},name{},probability{}", place, place, place);
  }
  return columns;
}

std::string csv_guesses(const std::vector<ClassProbability>& guesses, const std::vector<std::string>& names) {
  std::string columns;
  for (const ClassProbability& guess : guesses) {
    columns += format(",{},{},{:.6g}", guess.label, csv_field(class_name(names, guess.label)), guess.probability);
  }
  return columns;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string field = "\"";
  for (const char c : text) field += c == '"' ? "\"\"" : std::string(1, c);
  return field + "\"";
}

}  // namespace dcs3gd::app
