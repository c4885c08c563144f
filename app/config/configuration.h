#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/rules/options.h"
#include "comm/options.h"
#include "core/optim/learning_rate.h"
#include "core/optim/momentum_sgd.h"
#include "data/options.h"
#include "nn/kernels/precision.h"

/// The configuration of a run: typed, with every default in its place. How it looks as YAML, the range and meaning of
/// each key stand in app/config/schema.cpp, once.
namespace dcs3gd::app {

struct EarlyStoppingConfiguration {
  std::optional<std::int64_t> patience_evaluations;  ///< without a gain, after which the run ends
  double min_delta = 0;                              ///< of top-1: what is more is a gain
};

struct RunConfiguration {
  std::string name;  ///< of the run folder; default: the configuration file's name without its extension
  std::string output_dir = "runs";
  std::uint64_t seed = 1;
  std::int64_t epochs = 30;               ///< the horizon of the learning-rate schedule
  std::optional<std::int64_t> max_steps;  ///< stops earlier without moving the horizon
  std::int64_t eval_every_epochs = 1;     ///< 0: only at the end
  std::optional<int> threads;             ///< per rank; none: auto
  std::optional<double> time_limit_minutes;
  std::optional<double> loss_limit;  ///< a loss above it counts as diverged
  EarlyStoppingConfiguration early_stopping;
};

/// A model has fewer.
constexpr int kMaxClasses = 1'000'000;

enum class ConvolutionMode { automatic, direct };
enum class InitClassifier {
  of_file,
  anew,  ///< random, whatever model.init holds
};

struct ModelConfiguration {
  static constexpr int kClassesOfData = 0;  ///< model.classes: auto

  std::string name = "resnet20";
  std::optional<std::string> file;  ///< describes the network in place of `name`, which then is but a word
  int classes = 10;
  nn::Precision precision = nn::Precision::fp32;
  ConvolutionMode convolution = ConvolutionMode::automatic;
  std::optional<std::string> init;     ///< a .safetensors file; none: random
  std::vector<std::string> init_skip;  ///< prefixes of tensors that stay random when init is a file
  InitClassifier init_classifier = InitClassifier::of_file;
  std::optional<double> ema_decay;  ///< of the average of weights that is evaluated and written
  std::vector<std::string> freeze;  ///< patterns of parameters that keep their values (app/model/training_graph.h)
  bool zero_init_residual = false;
  float dropout = 0.5F;  ///< VGG only
};

/// How the parameters that a pattern matches are trained, where not as all others.
struct ParameterGroup {
  std::string match;  ///< app/model/training_graph.h
  double lr_factor = 1;
  std::optional<float> weight_decay;  ///< in place of the optimizer's
  bool frozen = false;
};

struct OptimizerConfiguration {
  optim::MomentumSgdOptions sgd;
  optim::LearningRateOptions lr;
  std::vector<ParameterGroup> groups;
};

/// When to checkpoint besides the end of the run; any of the three is enough. At least 1 or none.
/// Whose states a checkpoint holds.
enum class CheckpointWorkers {
  all,
  average,  ///< of one worker, their mean
};

struct CheckpointConfiguration {
  std::optional<std::int64_t> every_epochs = 1;
  std::optional<std::int64_t> every_steps;
  std::optional<double> every_minutes;
  int keep = 3;
  CheckpointWorkers workers = CheckpointWorkers::all;

  /// Whether a run saves on its way, not only at its end.
  bool is_periodic() const { return every_epochs || every_steps || every_minutes; }
};

enum class ProgressStyle { automatic, bar, lines, none };

struct OutputConfiguration {
  ProgressStyle progress = ProgressStyle::automatic;
  std::int64_t metrics_every_steps = 1;
  bool trace = false;
  std::optional<std::string> mlflow;  ///< folder of MLflow's file store
};

struct Configuration {
  RunConfiguration run;
  ModelConfiguration model;
  data::DataOptions data;
  AlgorithmOptions algorithm = recommended_algorithm();
  OptimizerConfiguration optimizer;
  comm::Options comm;
  CheckpointConfiguration checkpoint;
  OutputConfiguration output;
};

/// What the update rule depends on.
RuleOptions rule_options(const Configuration& configuration);

/// The file that `--config name` means: `name` as given, or else `name` in the first of `folders` that has it.
/// Throws Error{input} that says where it was looked for.
std::filesystem::path find_configuration_file(const std::string& name, std::span<const std::filesystem::path> folders);

/// What a configuration is read from.
struct ConfigurationSource {
  std::string file_name;               ///< for messages, and its stem is the default of run.name
  std::string text;                    ///< YAML
  std::vector<std::string> overrides;  ///< KEY=VALUE, the value in YAML; later ones win over earlier ones and the text
  bool is_trained = true;              ///< else data.train may be missing
};

/// Reads the file of a source; Error{input} if that fails.
ConfigurationSource read_configuration_file(const std::filesystem::path& file, std::vector<std::string> overrides);

/// The effective configuration, in which everything that can be checked without data is checked. Throws one
/// Error{input} with all problems, one a line, in the order of the text and the overrides: `file:line:column: key: what
/// is wrong. Did you mean …?` or `--set KEY=VALUE: key: what is wrong`.
Configuration parse_configuration(const ConfigurationSource& source);

/// The configuration with all its keys as YAML, each with a comment that says what it is and what it accepts;
/// parse_configuration() makes the same configuration of it.
std::string to_yaml(const Configuration& configuration);

/// Every key with its value in YAML, in the order of the schema.
using Settings = std::vector<std::pair<std::string, std::string>>;
Settings settings_of(const Configuration& configuration);

/// A line `section.key: value` for each key, for comparisons.
std::string to_lines(const Configuration& configuration);

/// Whether a run may be continued with another value of this key.
bool may_change_on_resume(const std::string& key);

/// 16 hexadecimal digits that tell configurations apart: the hash of to_lines(). The same on every machine.
std::string configuration_hash(const Configuration& configuration);

}  // namespace dcs3gd::app
