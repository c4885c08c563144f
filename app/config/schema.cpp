#include "app/config/schema.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "app/config/network_reader.h"
#include "app/config/suggestion.h"
#include "app/rules/table.h"
#include "comm/schedule/algorithms.h"
#include "core/format.h"
#include "data/formats.h"
#include "data/transform/mixup.h"

namespace dcs3gd::app {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kMaxCount = std::numeric_limits<std::int64_t>::max();
constexpr int kMaxThreads = 4096;
constexpr std::size_t kMaxNameBytes = 200;  // room for ".123" within the 255 of file systems

template <typename T>
Field field(const std::string& key, T& target, const ValueFormat<T>& format, const std::string& help,
            OnResume on_resume = OnResume::must_stay) {
  return {.key = key,
          .help = help,
          .accepts = format.accepts,
          .words = format.words,
          .on_resume = on_resume,
          .read =
              [&target, format](const YamlValue& value) {
                std::optional<T> parsed = format.parse(value);
                if (parsed) target = std::move(*parsed);
                return parsed.has_value();
              },
          .print = [&target, format] { return format.print(target); }};
}

/// The words of algorithm.name, and what each stands for.
ValueFormat<std::string> rule_name() {
  std::vector<std::pair<std::string, std::string>> words;
  for (const RuleInfo& rule : rules()) words.emplace_back(rule.name, rule.name);
  return choice<std::string>(words);
}

/// Any word where model.file describes the network; else model_violation() has the last word.
ValueFormat<std::string> network_name() {
  ValueFormat<std::string> name = text();
  name.accepts = choice_accepts(network_names());
  name.words = network_names();
  return name;
}

ValueFormat<int> class_count() {
  const auto number = or_word("auto", whole<int>(2, kMaxClasses));
  return {
      .accepts = number.accepts,
      .words = number.words,
      .parse = [number](const YamlValue& value) -> std::optional<int> {
        const auto parsed = number.parse(value);
        return parsed ? std::optional(parsed->value_or(ModelConfiguration::kClassesOfData)) : std::nullopt;
      },
      .print =
          [number](const int& classes) {
            return number.print(classes == ModelConfiguration::kClassesOfData ? std::nullopt : std::optional(classes));
          }};
}

/// How other programs call what is a key here; words of two are joined with "_".
constexpr std::pair<std::string_view, const char*> kOtherNames[] = {
    {"arch", "model.name"},
    {"b", "algorithm.batch_per_worker"},
    {"batch", "algorithm.batch_per_worker"},
    {"batch_size", "algorithm.batch_per_worker"},
    {"bs", "algorithm.batch_per_worker"},
    {"clip_grad", "algorithm.gradient_clip_norm"},
    {"data", "data.train"},
    {"data_path", "data.train"},
    {"imgsz", "data.image_size"},
    {"img_size", "data.image_size"},
    {"j", "data.loader.threads"},
    {"learning_rate", "optimizer.lr.base"},
    {"lr", "optimizer.lr.base"},
    {"max_epochs", "run.epochs"},
    {"model", "model.name"},
    {"nproc", "run.threads"},
    {"num_classes", "model.classes"},
    {"num_workers", "data.loader.threads"},
    {"output", "run.output_dir"},
    {"pretrained", "model.init"},
    {"scheduler", "optimizer.lr.schedule"},
    {"val", "data.eval"},
    {"warmup", "optimizer.lr.warmup_epochs"},
    {"wd", "optimizer.weight_decay"},
    {"weights", "model.init"},
    {"workers", "data.loader.threads"},
};

/// An entry of optimizer.groups, whose keys are fields of its own.
ValueFormat<ParameterGroup> parameter_group() {
  const auto fields_of = [](ParameterGroup& group) {
    return std::vector<Field>{field("match", group.match, text(), ""),
                              field("lr_factor", group.lr_factor, real<double>(above(0)), ""),
                              field("weight_decay", group.weight_decay, or_word("null", real<float>(at_least(0))), ""),
                              field("frozen", group.frozen, flag(), "")};
  };
  return {.accepts =
              "{match: PATTERN, lr_factor: above 0, weight_decay: at least 0, frozen: true or false}, of which "
              "only match must be there",
          .words = {},
          .parse = [fields_of](const YamlValue& value) -> std::optional<ParameterGroup> {
            ParameterGroup group;
            std::vector<Field> fields = fields_of(group);
            for (const YamlEntry& entry : value.entries) {
              const auto field = std::ranges::find(fields, entry.key, &Field::key);
              if (field == fields.end() || !field->read(entry.value)) return {};
              fields.erase(field);  // a second one is refused
            }
            return group.match.empty() ? std::nullopt : std::optional(std::move(group));
          },
          .print =
              [fields_of](const ParameterGroup& group) {
                ParameterGroup copy = group;
                std::string text;
                for (const Field& field : fields_of(copy)) {
                  text += format("{}{}: {}", text.empty() ? "" : ", ", field.key, field.print());
                }
                return "{" + text + "}";
              }};
}

std::string rules_help() {
  std::string help;
  for (const RuleInfo& rule : rules()) help += format("{}{}: {}", help.empty() ? "" : "; ", rule.name, rule.help);
  return help;
}

}  // namespace

std::vector<Field> schema(Configuration& configuration) {
  auto& [run, model, data, algorithm, optimizer, comm, checkpoint, output] = configuration;
  auto& [sgd, lr, groups] = optimizer;

  const OnResume may_change = OnResume::may_change;
  const auto count = [](std::int64_t low) { return whole<std::int64_t>(low, kMaxCount); };
  std::vector<std::pair<std::string, std::string>> formats;
  for (const data::FormatInfo& info : data::formats()) formats.emplace_back(info.name, info.name);
  const auto format = choice(formats);
  const auto on_bad_image =
      choice<data::OnBadImage>({{"error", data::OnBadImage::error}, {"skip", data::OnBadImage::skip}});
  const auto precision = choice<nn::Precision>({{"fp32", nn::Precision::fp32}, {"bf16", nn::Precision::bf16}});
  const auto convolution =
      choice<ConvolutionMode>({{"auto", ConvolutionMode::automatic}, {"direct", ConvolutionMode::direct}});
  const auto init_classifier =
      choice<InitClassifier>({{"file", InitClassifier::of_file}, {"new", InitClassifier::anew}});
  const auto worker = choice<WorkerKind>({{"rank", WorkerKind::rank}, {"host", WorkerKind::host}});
  const auto correction =
      choice<CorrectionForm>({{"diagonal", CorrectionForm::diagonal}, {"rank_one", CorrectionForm::rank_one}});
  const auto lambda_norm = choice<LambdaNorm>({{"global", LambdaNorm::global}, {"tensor", LambdaNorm::tensor}});
  const auto scaling = choice<optim::LearningRateScaling>({{"linear", optim::LearningRateScaling::linear},
                                                           {"sqrt", optim::LearningRateScaling::sqrt},
                                                           {"none", optim::LearningRateScaling::none}});
  const auto schedule = choice<optim::ScheduleKind>({{"linear", optim::ScheduleKind::linear},
                                                     {"cosine", optim::ScheduleKind::cosine},
                                                     {"step", optim::ScheduleKind::step},
                                                     {"poly", optim::ScheduleKind::poly},
                                                     {"constant", optim::ScheduleKind::constant}});
  std::vector<std::pair<std::string, std::string>> all_reduces;
  std::string all_reduce_help = "who averages the updates";
  for (const comm::AlgorithmInfo& info : comm::algorithms()) {
    all_reduces.emplace_back(info.name, info.name);
    all_reduce_help.append("; ").append(info.name).append(": ").append(info.help);
  }
  all_reduces.emplace_back(comm::kAutomatic, comm::kAutomatic);
  all_reduce_help.append("; auto: by ranks, hosts, wire and the size of the array, as comm/README.md says");
  const auto all_reduce = choice<std::string>(all_reduces);
  std::vector<std::pair<std::string, comm::Wire>> wires;
  wires.reserve(std::size(comm::kWires));
  for (const comm::WireInfo& info : comm::kWires) wires.emplace_back(info.name, info.wire);
  const auto wire = choice<comm::Wire>(wires);
  const auto saved_workers =
      choice<CheckpointWorkers>({{"all", CheckpointWorkers::all}, {"average", CheckpointWorkers::average}});
  const auto progress = choice<ProgressStyle>({{"auto", ProgressStyle::automatic},
                                               {"bar", ProgressStyle::bar},
                                               {"lines", ProgressStyle::lines},
                                               {"none", ProgressStyle::none}});

  // clang-format off
  return {
      field("run.name", run.name, text(), "run folder within output_dir", may_change),
      field("run.output_dir", run.output_dir, path(), "where run folders are made", may_change),
      field("run.seed", run.seed, whole<std::uint64_t>(0, kMaxCount), "seed of initialisation, order, augmentation and dropout"),
      field("run.epochs", run.epochs, whole<std::int64_t>(1, kMillion), "length of the run and of the learning-rate schedule", may_change),
      field("run.max_steps", run.max_steps, or_word("null", count(1)), "stop earlier without changing the schedule", may_change),
      field("run.eval_every_epochs", run.eval_every_epochs, whole<std::int64_t>(0, kMillion), "evaluate after this many epochs; 0: only at the end", may_change),
      field("run.threads", run.threads, or_word("auto", whole<int>(1, kMaxThreads)), "compute threads per rank", may_change),
      field("run.time_limit_minutes", run.time_limit_minutes, or_word("null", real<double>(above(0))), "checkpoint and stop after this time; null: none", may_change),
      field("run.loss_limit", run.loss_limit, or_word("null", real<double>(above(0))), "a loss above it ends the run as diverged; null: none", may_change),
      field("run.early_stopping.patience_evaluations", run.early_stopping.patience_evaluations, or_word("null", count(1)), "evaluations without a better top-1 after which the run ends; null: none", may_change),
      field("run.early_stopping.min_delta", run.early_stopping.min_delta, real<double>(fraction()), "by which top-1, 0 to 1, must be better", may_change),

      field("model.name", model.name, network_name(), "network"),
      field("model.file", model.file, or_word("null", path()), "a description of a network, in place of model.name"),
      field("model.classes", model.classes, class_count(), "number of classes; auto: as many as the training data have"),
      field("model.precision", model.precision, precision, "format of activations and compute weights"),
      field("model.convolution", model.convolution, convolution, "auto: the fastest algorithm per layer"),
      field("model.init", model.init, or_word("random", path()), "first weights: random or a .safetensors file"),
      field("model.init_skip", model.init_skip, list_of(text()), "modules that stay random when init is a file"),
      field("model.init_classifier", model.init_classifier, init_classifier, "new: the last layer stays random when init is a file, for other classes"),
      field("model.freeze", model.freeze, list_of(text()), "modules or parameters that are not trained, by name or pattern; a batch norm then uses its running statistics"),
      field("model.ema_decay", model.ema_decay, or_word("null", real<double>(fraction())), "evaluate and write an average of the weights over steps, such as 0.999; null: the weights themselves"),
      field("model.zero_init_residual", model.zero_init_residual, flag(), "last batch norm of each residual branch starts at 0"),
      field("model.dropout", model.dropout, real<float>(fraction()), "rate of dropout, VGG only"),

      field("data.format", data.format, format, "kind of data set"),
      field("data.train", data.train, text_or_null(path()), "training images; relative to DCS3GD_DATA if set", may_change),
      field("data.eval", data.eval, text_or_null(path()), "evaluation images; relative to DCS3GD_DATA if set", may_change),
      field("data.split", data.split, real<double>(fraction()), "share of the photos in data.train, of each class, to evaluate on; 0: those in data.eval"),
      field("data.image_size", data.image_size, whole<int>(1, 16384), "height and width in pixels"),
      field("data.channels", data.channels, whole<int>(1, 3), "1 grey, 3 colour"),
      field("data.shuffle", data.shuffle, flag(), "new order in each epoch"),
      field("data.synthetic.train_images", data.synthetic.train_images, whole<std::int64_t>(1, 1000 * kMillion), "images generated for training"),
      field("data.synthetic.eval_images", data.synthetic.eval_images, whole<std::int64_t>(1, 1000 * kMillion), "images generated for evaluation"),
      field("data.normalize.mean", data.normalize.mean, list_of(real<float>({})), "per channel, of pixels 0 to 1; []: the format's own"),
      field("data.normalize.std", data.normalize.std, list_of(real<float>(above(0))), "per channel; []: the format's own"),
      field("data.augment.random_crop_padding", data.augment.random_crop_padding, whole<int>(0, 1024), "pixels around the image before the crop"),
      field("data.augment.random_resized_crop", data.augment.random_resized_crop, flag(), "crop a random part, scale it to image_size"),
      field("data.augment.horizontal_flip", data.augment.horizontal_flip, flag(), "mirror every other image"),
      field("data.augment.color_jitter", data.augment.color_jitter, real<float>({.low = 0, .high = 1}), "brightness, contrast, saturation; 0: off"),
      field("data.augment.mixup", data.augment.mixup, real<float>({.low = 0, .high = data::kMaxMixupAlpha}), "mix images; alpha of Beta(alpha, alpha); 0: off"),
      field("data.loader.threads", data.loader.threads, or_word("auto", whole<int>(0, kMaxThreads)), "threads per rank that prepare batches", may_change),
      field("data.loader.prefetch_batches", data.loader.prefetch_batches, whole<int>(1, 1024), "batches made ahead", may_change),
      field("data.loader.on_bad_image", data.loader.on_bad_image, on_bad_image, "what to do when an image cannot be decoded", may_change),

      field("algorithm.name", algorithm.name, rule_name(), rules_help()),
      field("algorithm.worker", algorithm.worker, worker, "who has an update of its own: each rank, or the ranks of a host together"),
      field("algorithm.own_momentum", algorithm.own_momentum, or_word("paper", real<double>(fraction())), "momentum of a worker's own deviation; paper: optimizer.momentum"),
      field("algorithm.fresh", algorithm.fresh, or_word("auto", real<double>({.low = 0, .high = 1})), "share of the parameters, from the last layer on, that is never stale; auto: all that the network hides"),
      field("algorithm.overlap_from_epoch", algorithm.overlap_from_epoch, real<double>(at_least(0)), "before, nothing is stale"),
      field("algorithm.staleness_limit", algorithm.staleness_limit, or_word("null", real<double>(above(0))), "of staleness_price / loss; above it the next 50 steps are not stale; null: none"),
      field("algorithm.lambda0", algorithm.lambda0, real<double>(at_least(0)), "strength of the delay compensation"),
      field("algorithm.lambda_norm", algorithm.lambda_norm, lambda_norm, "scope of the norms that lambda comes from"),
      field("algorithm.lambda_max", algorithm.lambda_max, or_word("null", real<double>(above(0))), "cap of lambda; null: none"),
      field("algorithm.lambda", algorithm.lambda, or_word("null", real<double>(at_least(0))), "a constant lambda in place of lambda0's; null: none"),
      field("algorithm.lambda_until_epoch", algorithm.lambda_until_epoch, or_word("null", real<double>(at_least(0))), "no compensation from there on; null: to the end"),
      field("algorithm.correction", algorithm.correction, correction, "curvature in the compensation: g*g, or the outer product of g"),
      field("algorithm.correction_bound", algorithm.correction_bound, or_word("null", real<double>(above(0))), "largest change of a gradient's element, as its share; null: none"),
      field("algorithm.workers_per_rank", algorithm.workers_per_rank, whole<int>(1, 4096), "workers that one process plays", may_change),
      field("algorithm.batch_per_worker", algorithm.batch_per_worker, whole<int>(1, kMillion), "images per step and worker", may_change),
      field("algorithm.micro_batches", algorithm.micro_batches, whole<int>(1, 4096), "parts of a batch whose gradients are summed", may_change),
      field("algorithm.label_smoothing", algorithm.label_smoothing, real<float>(fraction()), "part of the target spread over all classes"),
      field("algorithm.gradient_clip_norm", algorithm.gradient_clip_norm, or_word("null", real<double>(above(0))), "longer gradients are scaled down to this norm; null: none"),

      field("optimizer.momentum", sgd.momentum, real<float>(fraction()), "momentum of SGD"),
      field("optimizer.nesterov", sgd.nesterov, flag(), "Nesterov's form of momentum"),
      field("optimizer.weight_decay", sgd.weight_decay, real<float>(at_least(0)), "decay of convolution and linear weights"),
      field("optimizer.decay_norm_and_bias", sgd.decay_norm_and_bias, flag(), "decay batch norms and biases too"),
      field("optimizer.groups", groups, list_of(parameter_group()), "what is trained otherwise, by name or pattern; the last that matches counts"),
      field("optimizer.lr.base", lr.base, real<double>({.low = 0, .high = 1e6, .low_included = false}), "peak learning rate for reference_batch images per step", may_change),
      field("optimizer.lr.scaling", lr.scaling, scaling, "growth with the images per step of all workers", may_change),
      field("optimizer.lr.reference_batch", lr.reference_batch, whole<int>(1, kMillion), "images per step that base is meant for", may_change),
      field("optimizer.lr.warmup_epochs", lr.warmup_epochs, real<double>(at_least(0)), "linear rise to the peak", may_change),
      field("optimizer.lr.warmup_start", lr.warmup_start, real<double>(at_least(0)), "learning rate it rises from, whatever the batch", may_change),
      field("optimizer.lr.schedule", lr.schedule, schedule, "what follows the warm-up", may_change),
      field("optimizer.lr.milestones", lr.milestones, list_of(real<double>(at_least(0))), "epochs at which schedule step multiplies by gamma", may_change),
      field("optimizer.lr.gamma", lr.gamma, real<double>(above(0)), "factor of schedule step", may_change),
      field("optimizer.lr.power", lr.power, real<double>(above(0)), "exponent of schedule poly", may_change),
      field("optimizer.lr.final", lr.final_rate, real<double>(at_least(0)), "last learning rate of schedules linear, cosine and poly, whatever the batch", may_change),

      field("comm.algorithm", comm.algorithm, all_reduce, all_reduce_help, may_change),
      field("comm.wire", comm.wire, wire, "what travels between ranks; int8 and int4, 8.5 and 4.5 bits a number, need comm.algorithm: auto, direct, hierarchical or shared", may_change),
      field("comm.ranks_per_host", comm.ranks_per_host, or_word("auto", whole<int>(1, kMillion)), "consecutive ranks that count as a host; auto: as the system names hosts", may_change),
      field("comm.segment_bytes", comm.segment_bytes, or_word("auto", whole<std::size_t>(64, 1 << 30)), "pieces in which an array is sent", may_change),
      field("comm.core", comm.core, or_word("auto", whole<int>(0, kMaxThreads)), "core of the progress thread", may_change),
      field("comm.timeout_s", comm.timeout_s, real<double>(above(0)), "silence after which the job ends", may_change),

      field("checkpoint.every_epochs", checkpoint.every_epochs, or_word("null", whole<std::int64_t>(0, kMillion)), "checkpoint after this many epochs; 0 or null: never", may_change),
      field("checkpoint.every_steps", checkpoint.every_steps, or_word("null", count(1)), "checkpoint after this many steps", may_change),
      field("checkpoint.every_minutes", checkpoint.every_minutes, or_word("null", real<double>(above(0))), "checkpoint after this time", may_change),
      field("checkpoint.keep", checkpoint.keep, whole<int>(1, kMillion), "checkpoints kept, the newest ones", may_change),
      field("checkpoint.workers", checkpoint.workers, saved_workers, "whose states; all: each worker's own, from which a run continues exactly; average: their mean, which does not grow with the workers", may_change),

      field("output.progress", output.progress, progress, "how the run shows itself; auto: a bar on a terminal, lines elsewhere", may_change),
      field("output.metrics_every_steps", output.metrics_every_steps, count(1), "steps per step line in metrics.jsonl", may_change),
      field("output.trace", output.trace, flag(), "write trace.json", may_change),
      field("output.mlflow", output.mlflow, or_word("null", path()), "folder in which the run is recorded for MLflow too, such as mlruns", may_change),
  };
  // clang-format on
}

std::optional<std::string> key_called(const std::string& key, std::span<const std::string> known) {
  const auto last_word_of = [](std::string_view path) { return path.substr(path.rfind('.') + 1); };
  const std::string_view word = last_word_of(key);
  for (const auto& [name, meant] : kOtherNames) {
    if (name == word) return meant;
  }
  const std::string* namesake = nullptr;
  std::size_t shared = 0;
  for (const std::string& candidate : known) {
    if (last_word_of(candidate) != word) continue;
    const auto begin = static_cast<std::size_t>(std::ranges::mismatch(candidate, key).in1 - candidate.begin());
    if (namesake == nullptr || begin > shared) namesake = &candidate;
    shared = std::max(shared, begin);
  }
  return namesake == nullptr ? std::nullopt : std::optional(*namesake);
}

namespace {

std::string name_violation(const Configuration& c) {
  const std::string& name = c.run.name;
  const YamlDocument written = parse_yaml(print_text(name));
  const bool is_folder_name = name.find('/') == std::string::npos && name != "." && name != "..";
  if (is_folder_name && name.size() <= kMaxNameBytes && !written.problem && is_scalar(written.root, name)) return "";
  return format("must be a name for a folder, without \"/\" and of at most {} bytes; found \"{}\"", kMaxNameBytes,
                shortened(name));
}

std::string model_violation(const Configuration& c) {
  const std::vector<std::string>& names = network_names();
  const std::string& name = c.model.name;
  if (c.model.file || std::ranges::find(names, name) != names.end()) return "";
  return format("must be {}; found {}{}", choice_accepts(names), shortened(name), did_you_mean(name, names));
}

std::string paths_violation(const Configuration& c, bool is_trained) {
  if (data::format_of(c.data).is_generated()) return "";
  const bool no_train = is_trained && c.data.train.empty();
  const bool no_eval = c.data.eval.empty() && c.data.split == 0;
  if (!no_train && !no_eval) return "";
  return format("data on disk needs {}data.eval; missing: {}{}{}", is_trained ? "data.train and " : "",
                no_train ? "data.train" : "", no_train && no_eval ? ", " : "", no_eval ? "data.eval" : "");
}

std::string split_violation(const Configuration& c) {
  if (c.data.split == 0) return "";
  if (c.data.format != "image_folder")
    return format("divides an image_folder, not data of the format {}", c.data.format);
  return c.data.eval.empty() ? "" : "takes the evaluation images from data.train; leave data.eval out, or data.split";
}

/// For one of mean and std, which belong together.
std::string normalize_violation(const Configuration& c, const std::vector<float>& values,
                                const std::vector<float>& others, const char* other_key) {
  if (values.empty()) return "";
  if (others.empty()) return format("needs {} beside it", other_key);
  if (values.size() == static_cast<std::size_t>(c.data.channels)) return "";
  return format("must have one entry per channel (data.channels: {}); found {}", c.data.channels, values.size());
}

std::string milestones_violation(const Configuration& c) {
  const std::vector<double>& milestones = c.optimizer.lr.milestones;
  const bool ascending = std::ranges::adjacent_find(milestones, std::greater_equal()) == milestones.end();
  return ascending ? "" : "must be in ascending order";
}

}  // namespace

std::vector<Condition> conditions(bool is_trained) {
  return {
      {{"run.name"}, name_violation},
      {{"model.name", "model.file"}, model_violation},
      {{"data.split", "data.format", "data.eval"}, split_violation},
      {{"data.format", "data.train", "data.eval", "data.split"},
       [is_trained](const Configuration& c) { return paths_violation(c, is_trained); }},
      {{"model.classes", "data.format"},
       [](const Configuration& c) {
         const bool is_open =
             c.model.classes == ModelConfiguration::kClassesOfData && data::format_of(c.data).is_generated();
         return is_open ? "auto counts the classes of data on disk; generated data have as many as it says" : "";
       }},
      {{"data.channels"},
       [](const Configuration& c) { return c.data.channels == 2 ? "must be 1 (grey) or 3 (colour); found 2" : ""; }},
      {{"data.normalize.mean", "data.normalize.std", "data.channels"},
       [](const Configuration& c) {
         return normalize_violation(c, c.data.normalize.mean, c.data.normalize.std, "data.normalize.std");
       }},
      {{"data.normalize.std", "data.normalize.mean", "data.channels"},
       [](const Configuration& c) {
         return normalize_violation(c, c.data.normalize.std, c.data.normalize.mean, "data.normalize.mean");
       }},
      {{"data.augment.mixup", "algorithm.batch_per_worker"},
       [](const Configuration& c) {
         const bool is_alone = c.data.augment.mixup > 0 && c.algorithm.batch_per_worker == 1;
         return is_alone ? "mixes the images of a worker's batch; algorithm.batch_per_worker must be at least 2" : "";
       }},
      {{"optimizer.lr.milestones"}, milestones_violation},
      {{"optimizer.lr.schedule", "optimizer.lr.milestones"},
       [](const Configuration& c) {
         const bool stays = c.optimizer.lr.schedule == optim::ScheduleKind::step && c.optimizer.lr.milestones.empty();
         return stays ? "step needs optimizer.lr.milestones, for example [15, 25]" : "";
       }},
      {{"algorithm.micro_batches", "algorithm.batch_per_worker"},
       [](const Configuration& c) {
         return c.algorithm.batch_per_worker % c.algorithm.micro_batches == 0
                    ? ""
                    : format("must divide algorithm.batch_per_worker, {}; found {}", c.algorithm.batch_per_worker,
                             c.algorithm.micro_batches);
       }},
      {{"algorithm.own_momentum", "optimizer.momentum"},
       [](const Configuration& c) {
         const double momentum = c.optimizer.sgd.momentum;
         return c.algorithm.own_momentum.value_or(0) <= momentum
                    ? ""
                    : format("must be at most optimizer.momentum, {:.3g}; found {:.3g}", momentum,
                             *c.algorithm.own_momentum);
       }},
      {{"algorithm.worker", "algorithm.workers_per_rank"},
       [](const Configuration& c) {
         const bool clash = c.algorithm.worker == WorkerKind::host && c.algorithm.workers_per_rank > 1;
         return clash ? "host makes one worker of a host's ranks; algorithm.workers_per_rank must be 1" : "";
       }},
      {{"comm.wire", "comm.algorithm"},
       [](const Configuration& c) { return comm::clash_with_wire(c.comm.algorithm, c.comm.wire); }},
  };
}

}  // namespace dcs3gd::app
