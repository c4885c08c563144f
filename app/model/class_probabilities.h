#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace dcs3gd::app {

/// One of a model's guesses.
struct ClassProbability {
  std::size_t label = 0;
  double probability = 0;  ///< 0 … 1, by softmax over all classes
};

/// The `count` most probable classes of an image (all, if there are fewer), the most probable first, of equal ones the
/// lower label; NaN is below all.
std::vector<ClassProbability> most_probable(std::span<const float> logits, std::size_t count);

/// The name of a class; empty where classes have numbers only.
std::string class_name(const std::vector<std::string>& names, std::size_t label);

/// Columns of a CSV line for the first `places` guesses, each with a comma before it: class1, name1, probability1, …
std::string csv_guess_header(std::size_t places);
std::string csv_guesses(const std::vector<ClassProbability>& guesses, const std::vector<std::string>& names);

/// A field as CSV (RFC 4180) wants it.
std::string csv_field(const std::string& text);

}  // namespace dcs3gd::app
