#include "app/report/start_report.h"

#include <algorithm>
#include <cstdlib>

#include "app/rules/table.h"
#include "comm/launcher.h"
#include "comm/schedule/algorithms.h"
#include "core/format.h"
#include "core/log.h"
#include "core/version.h"
#include "nn/onednn/cpu.h"

namespace dcs3gd::app {
namespace {

constexpr double kMegabyte = 1e6;

std::string algorithm_text(const AlgorithmOptions& algorithm) {
  const std::string settings = find_rule(algorithm.name).settings(algorithm);
  return settings.empty() ? algorithm.name : format("{}, {}", algorithm.name, settings);
}

std::string steps_text(const RunConfiguration& run, const RunPlan& plan) {
  if (plan.steps_per_epoch == 0) return counted(run.epochs, "epoch");
  const std::int64_t horizon = run.epochs * plan.steps_per_epoch;
  return format("{} ({} x {}){}", horizon, counted(run.epochs, "epoch"), plan.steps_per_epoch,
                plan.steps < horizon ? format(", ends at step {}", plan.steps) : "");
}

std::string schedule_text(const optim::LearningRateOptions& lr) {
  switch (lr.schedule) {
    case optim::ScheduleKind::linear:
      return format("linear to {}", lr.final_rate);
    case optim::ScheduleKind::cosine:
      return format("cosine to {}", lr.final_rate);
    case optim::ScheduleKind::step:
      return format("x {} at epochs {}", lr.gamma, fmt::join(lr.milestones, ", "));
    case optim::ScheduleKind::poly:
      return format("polynomial of power {} to {}", lr.power, lr.final_rate);
    case optim::ScheduleKind::constant:
      return "constant";
  }
  return "";
}

std::string learning_rate_text(const optim::LearningRateOptions& lr, double peak, std::int64_t epochs) {
  std::string text = format("{:.4g}", peak);
  if (peak != lr.base) text += format(" ({} for a batch of {})", lr.base, lr.reference_batch);
  if (lr.warmup_epochs > 0) text += format(", warm-up from {} until epoch {:.4g}", lr.warmup_start, lr.warmup_epochs);
  if (lr.warmup_epochs > static_cast<double>(epochs)) return text + ": the run ends before";
  return text + ", " + schedule_text(lr);
}

std::string optimizer_text(const Configuration& configuration) {
  const optim::MomentumSgdOptions& sgd = configuration.optimizer.sgd;
  const std::optional<double>& ema = configuration.model.ema_decay;
  return format("{}momentum {}, weight decay {}{}{}", sgd.nesterov ? "Nesterov " : "", sgd.momentum, sgd.weight_decay,
                sgd.decay_norm_and_bias ? " on all parameters" : "",
                ema ? format("; evaluated: the weights' average, decay {}", *ema) : "");
}

std::string workers_text(const AlgorithmOptions& algorithm, int rank_count) {
  const std::int64_t workers = std::int64_t{algorithm.workers_per_rank} * rank_count;
  const std::string origin = algorithm.workers_per_rank > 1
                                 ? format(" ({} x {})", counted(rank_count, "rank"), algorithm.workers_per_rank)
                                 : "";
  const std::string parts =
      algorithm.micro_batches > 1 ? format(" ({} x {})", algorithm.micro_batches, algorithm.images_per_pass()) : "";
  return format("{}{} x batch {}{} = global batch {}", workers, origin, algorithm.batch_per_worker, parts,
                workers * algorithm.batch_per_worker);
}

std::string all_reduce_text(const Configuration& configuration, std::string_view chosen, std::int64_t parameters,
                            int rank_count) {
  if (rank_count == 1) return "none: one rank";
  const std::string& asked_for = configuration.comm.algorithm;
  const std::string algorithm = format("{}{}", chosen == asked_for ? "" : asked_for + ": ", chosen);
  if (chosen == comm::kSharedMemory) return algorithm + ", fp32, in the memory of the host";
  return format("{}, {}, {:.1f} MB per step and rank", algorithm, comm::info_of(configuration.comm.wire).name,
                static_cast<double>(all_reduce_bytes(configuration, chosen, parameters, rank_count)) / kMegabyte);
}

/// Empty if all parameters are trained.
std::string trained_text(const Model& model) {
  if (model.frozen.values().empty()) return "";
  const auto& slices = model.frozen.layout().slices();
  const auto is_variance = [](const ParameterSlice& slice) {
    return slice.kind == ParameterKind::statistics && slice.name.ends_with("var");
  };
  return format(
      "{} parameters, and nothing else is sent; {} are frozen, with the running statistics of {}",
      fmt::group_digits(static_cast<std::int64_t>(model.weights.layout().element_count())),
      fmt::group_digits(static_cast<std::int64_t>(model.graph.parameter_layout()->part(true)->element_count())),
      counted(std::ranges::count_if(slices, is_variance), "batch norm"));
}

std::string group_text(const ParameterGroup& group) {
  if (group.frozen) return format("{}: frozen", group.match);
  return format("{}: learning rate x {}{}", group.match, group.lr_factor,
                group.weight_decay ? format(", weight decay {}", *group.weight_decay) : "");
}

std::string convolutions_text(const Configuration& configuration, const nn::Network& network) {
  const bool bf16 = configuration.model.precision == nn::Precision::bf16;
  const nn::ConvolutionCount count = network.convolutions();
  return format("{}, {} of {} by Winograd's algorithm{}", bf16 ? "bf16" : "fp32", count.winograd, count.all,
                bf16 && count.winograd > 0 ? " in fp32" : "");
}

std::string augmentation_text(const data::AugmentOptions& augment) {
  std::string text;
  const auto add = [&](bool is_used, const std::string& what) {
    if (is_used) text += (text.empty() ? "" : ", ") + what;
  };
  add(augment.random_resized_crop, "random resized crop");
  add(augment.random_crop_padding > 0, format("random crop with padding {}", augment.random_crop_padding));
  add(augment.horizontal_flip, "horizontal flip");
  add(augment.color_jitter > 0, format("colour jitter {}", augment.color_jitter));
  add(augment.mixup > 0, format("mixup {}", augment.mixup));
  return text.empty() ? "none" : text;
}

std::string every(std::int64_t epochs) { return epochs == 1 ? "every epoch" : format("every {} epochs", epochs); }

std::string saves_text(const Configuration& configuration) {
  const std::int64_t evaluations = configuration.run.eval_every_epochs;
  const CheckpointConfiguration& checkpoint = configuration.checkpoint;
  std::string text = evaluations > 0 ? "evaluated " + every(evaluations) : "evaluated at the end";
  text += "; checkpoints ";
  if (checkpoint.every_epochs) text += every(*checkpoint.every_epochs) + ", ";
  if (checkpoint.every_steps) text += format("every {} steps, ", *checkpoint.every_steps);
  if (checkpoint.every_minutes) text += format("every {} minutes, ", *checkpoint.every_minutes);
  return text + "at the end";
}

constexpr std::int64_t kHardlyAnyStep = 5;  // an epoch

}  // namespace

std::vector<std::string> plan_warnings(const Configuration& configuration, const RunPlan& plan) {
  std::vector<std::string> warnings;
  if (plan.steps_per_epoch == 0) return warnings;
  const std::int64_t epochs = configuration.run.epochs;
  const auto horizon = static_cast<double>(std::min(plan.steps, epochs * plan.steps_per_epoch));
  const double warmup = configuration.optimizer.lr.warmup_epochs;
  if (warmup * static_cast<double>(plan.steps_per_epoch) >= horizon && !configuration.run.max_steps) {
    warnings.push_back(
        format("the warm-up takes {:.4g} of {}: the learning rate never gets to its peak; set "
               "optimizer.lr.warmup_epochs: {:.2g}, or raise run.epochs",
               warmup, counted(epochs, "epoch"), static_cast<double>(epochs) / 10));
  }
  if (plan.steps_per_epoch < kHardlyAnyStep && epochs > 1) {
    warnings.push_back(format(
        "{} an epoch of {} training images: hardly anything is learnt; lower algorithm.batch_per_worker, or start "
        "fewer workers",
        counted(plan.steps_per_epoch, "step"), plan.training_images));
  }
  return warnings;
}

void warn_of_start(const Configuration& configuration, const RunPlan& plan, const std::vector<RankUse>& ranks) {
  const auto launch = comm::find_launch(std::getenv);
  for (const std::string& line : placement_warnings(ranks, plan.command, launch && launch->is_open_mpi()))
    log::warn(line);
  for (const std::string& line : plan_warnings(configuration, plan)) log::warn(line);
}

std::vector<ReportRow> run_rows(const Configuration& configuration, const RunPlan& plan) {
  std::vector<ReportRow> rows{{"program", format("dcs3gd-train {}", kVersion)},
                              {"command", plan.command},
                              {"run folder", plan.folder},
                              {"training data", plan.training_data},
                              {"evaluation data", plan.evaluation_data},
                              {"steps", steps_text(configuration.run, plan)},
                              {"learning rate", learning_rate_text(configuration.optimizer.lr, plan.peak_learning_rate,
                                                                   configuration.run.epochs)},
                              {"optimizer", optimizer_text(configuration)}};
  for (const ParameterGroup& group : configuration.optimizer.groups) rows.push_back({"", group_text(group)});
  rows.push_back({"augmentation", augmentation_text(configuration.data.augment)});
  rows.push_back({"seed", format("{}", configuration.run.seed)});
  rows.push_back({"saved", saves_text(configuration)});
  if (configuration.model.init) rows.push_back({"initial weights", *configuration.model.init});
  return rows;
}

std::vector<ReportRow> plan_rows(const Configuration& configuration, const Model& model, std::string_view all_reduce,
                                 const RankMemory& memory, const std::vector<RankUse>& ranks) {
  const auto parameters = static_cast<std::int64_t>(model.graph.parameter_layout()->element_count());
  const auto sent = static_cast<std::int64_t>(model.weights.layout().element_count());
  const int rank_count = static_cast<int>(ranks.size());
  const int size = configuration.data.image_size;
  std::vector<ReportRow> rows{
      {"model", format("{}, {} parameters, {} classes, images {}x{}x{}",
                       configuration.model.file.value_or(configuration.model.name), fmt::group_digits(parameters),
                       configuration.model.classes, configuration.data.channels, size, size)},
      {"workers", workers_text(configuration.algorithm, rank_count)},
      {"algorithm", algorithm_text(configuration.algorithm)},
      {"all-reduce", all_reduce_text(configuration, all_reduce, sent, rank_count)},
      {"memory", memory_text(memory)},
      {"processor", nn::instruction_set()},
      {"convolutions", convolutions_text(configuration, model.network)}};
  if (const std::string trained = trained_text(model); !trained.empty()) {
    rows.insert(rows.begin() + 1, {"trained", trained});
  }
  const std::vector<std::string> lines = describe_ranks(ranks);
  for (const std::string& line : lines) rows.push_back({&line == &lines.front() ? "ranks" : "", line});
  return rows;
}

std::vector<std::string> format_rows(const std::vector<ReportRow>& rows) {
  const std::size_t width =
      std::ranges::max(rows, {}, [](const ReportRow& row) { return row.name.size(); }).name.size();
  std::vector<std::string> lines;
  lines.reserve(rows.size());
  for (const ReportRow& row : rows) lines.push_back(format("{:<{}}  {}", row.name, width, row.value));
  return lines;
}

std::int64_t all_reduce_bytes(const Configuration& configuration, std::string_view algorithm, std::int64_t parameters,
                              int rank_count) {
  if (rank_count == 1) return 0;
  return static_cast<std::int64_t>(
      comm::wire_bytes(comm::wire_by(algorithm, configuration.comm.wire), static_cast<std::size_t>(parameters)));
}

}  // namespace dcs3gd::app
