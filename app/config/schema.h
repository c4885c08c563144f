#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/config/value_format.h"

namespace dcs3gd::app {

/// Whether a run may be continued with another value of a key.
enum class OnResume {
  must_stay,  ///< the value is part of what makes the trajectory
  may_change,
};

/// One key of the configuration, bound to its place in a Configuration.
struct Field {
  std::string key;      ///< dotted, such as optimizer.lr.base
  std::string help;     ///< what it is, in a few words
  std::string accepts;  ///< completes "must be …"
  std::vector<std::string> words;
  OnResume on_resume;
  std::function<bool(const YamlValue& value)> read;  ///< false: not acceptable
  std::function<std::string()> print;
};

/// All keys in the order in which they are printed, a section's keys together, bound to `configuration`, which must
/// outlive them. This is the one list that reading, printing, suggestions and help are made of.
std::vector<Field> schema(Configuration& configuration);

/// The key among `known` that is meant by one that is not: what other programs call by its last word, such as
/// batch_size, or else one with the same last word.
std::optional<std::string> key_called(const std::string& key, std::span<const std::string> known);

/// A condition on the value of a key that involves other keys.
struct Condition {
  /// The first is the one the condition is about. Checked when that one was given (defaults meet every condition) and
  /// the values of all could be read.
  std::vector<std::string> keys;
  std::function<std::string(const Configuration& configuration)> violation;  ///< what is wrong; empty: nothing
};

/// Conditions between keys. A configuration that is not trained needs no data.train.
std::vector<Condition> conditions(bool is_trained = true);

}  // namespace dcs3gd::app
