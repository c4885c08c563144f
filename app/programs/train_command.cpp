#include "app/programs/train_command.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "app/config/key_tables.h"
#include "app/job/agreement.h"
#include "app/job/build_id.h"
#include "app/job/exit_code.h"
#include "app/job/process_memory.h"
#include "app/job/stop_signals.h"
#include "app/model/confusion.h"
#include "app/model/datasets.h"
#include "app/model/model_card.h"
#include "app/model/predictions.h"
#include "app/model/training_graph.h"
#include "app/model/tuning.h"
#include "app/photos/first_configuration.h"
#include "app/programs/dry_run.h"
#include "app/record/progress.h"
#include "app/train/early_stopping.h"
#include "app/train/resume.h"
#include "app/train/trainer.h"
#include "comm/launcher.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/log.h"
#include "core/version.h"
#include "nn/convolution/tuning.h"

namespace dcs3gd::app {
namespace {

/// What all ranks must be asked for beside the configuration.
std::string to_line(const CommandLine& line) {
  constexpr const char* kActions[] = {"train",         "--eval",       "--dry-run", "--print-config",
                                      "--init-config", "--print-keys", "--version", "--help"};
  constexpr const char* kResumeModes[] = {"auto", "never", "PATH"};
  const auto mode = line.resume.value_or(ResumeMode::automatic);
  return format("{} {} --resume {} {} --predictions {}", kActions[static_cast<std::size_t>(line.action)],
                line.evaluate_path, kResumeModes[static_cast<std::size_t>(mode)], line.resume_path,
                line.predictions_path);
}

/// Where configurations are found by name: beside the build's bin folder in a checkout, and where they are installed.
std::vector<std::filesystem::path> configuration_folders() {
  std::error_code unknown;  // without /proc configurations are named by their paths
  const std::filesystem::path bin = std::filesystem::read_symlink("/proc/self/exe", unknown).parent_path();
  if (unknown) return {};
  return {bin / "../../../configs", bin / "../share/dcs3gd-train/configs"};
}

/// Stands for the name of a run where there is no file that it could come from.
constexpr const char* kTemplateName = "NAME";

/// For --print-config. A template leaves the name of the run to that of its file.
std::string printed(const Configuration& configuration) {
  std::string yaml = to_yaml(configuration);
  const std::string name = format("  name: {} ", kTemplateName);
  if (const std::size_t line = yaml.find(name); line != std::string::npos) yaml.replace(line, 2, "  # ");
  return yaml;
}

Configuration load_configuration(const CommandLine& command_line) {
  ConfigurationSource source{.file_name = kTemplateName, .text = "{}", .overrides = command_line.overrides};
  if (!command_line.config.empty()) {
    const std::filesystem::path file = find_configuration_file(command_line.config, configuration_folders());
    source = read_configuration_file(file, command_line.overrides);
  }
  source.is_trained = command_line.action != Action::evaluate;
  return parse_configuration(source);
}

/// What belongs to the process, however often its ranks begin again because others are lost.
struct Process {
  StopSignals signals{comm::find_launch(std::getenv).has_value()};
  std::optional<TimeLimit> time_limit;
  /// Steps were taken on this rank: the run folder is this run's, what it was to go on from is loaded.
  bool has_begun = false;
};

/// What to go on from: what was asked for; after a loss of ranks the run's own newest checkpoint, if there is one.
/// Collective.
ResumeMode resume_mode(const CommandLine& command_line, const RunFolder& folder, Process& process,
                       comm::Communicator& communicator) {
  const auto asked_for = command_line.resume.value_or(ResumeMode::automatic);
  process.has_begun = std::ranges::count(communicator.gather(process.has_begun ? 1 : 0), 1) > 0;
  if (!process.has_begun) return asked_for;
  std::string own;
  agree(communicator, [&] {
    if (communicator.rank() == 0 && !checkpoint_steps(folder.checkpoints()).empty()) own = "there";
  });
  return communicator.from_rank_0(own).empty() && asked_for == ResumeMode::path ? asked_for : ResumeMode::automatic;
}

/// The lock of a host that has lost its power may outlive it by a lease of the file system.
void claim_after_loss(const RunFolder& folder, std::optional<RunFolderClaim>& claim) {
  constexpr int kTries = 120;
  for (int tries = 1; !claim; ++tries) {
    const auto refused = attempt([&] { claim.emplace(folder, IfUsed::go_on); });
    if (refused && tries == kTries) throw Error(*refused);
    if (refused) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

/// The checkpoint to go on from, if there is one. The folder of an earlier run is claimed before it is looked into.
std::optional<Checkpoint> prepare_resume(const Configuration& configuration, const CommandLine& command_line,
                                         const ModelCard& card, const RunFolder& folder, Process& process,
                                         comm::Communicator& communicator, std::optional<RunFolderClaim>& claim) {
  const ResumeMode mode = resume_mode(command_line, folder, process, communicator);
  agree(communicator, [&] {
    if (communicator.rank() != 0 || mode == ResumeMode::never || !folder.is_used()) return;
    if (process.has_begun) return claim_after_loss(folder, claim);
    claim.emplace(folder, IfUsed::go_on);
    if (mode == ResumeMode::path) expect_own(folder, command_line.resume_path);
  });
  auto checkpoint = find_checkpoint(communicator, folder, mode, command_line.resume_path);
  agree(communicator, [&] {
    if (!checkpoint) return;
    expect_continuable(*checkpoint, configuration);
    expect_same_network(*checkpoint, card);
  });
  return checkpoint;
}

/// Whether there is nothing left to do; says so. Rank 0 looks, before anything is opened or built. Collective.
bool says_finished(const Configuration& configuration, const RunFolder& folder,
                   const std::optional<Checkpoint>& checkpoint, comm::Communicator& communicator) {
  const bool prints = communicator.rank() == 0;
  const bool mine = prints && checkpoint && is_finished(folder, *checkpoint, configuration.run);
  if (communicator.from_rank_0(mine ? "finished" : "").empty()) return false;
  if (prints) {
    const bool is_early = EarlyStopping(configuration.run.early_stopping, checkpoint->manifest.rule).is_over();
    log::info(format("the run in {} is finished; raise {} to continue it, or start anew with --resume never",
                     folder.path(),
                     is_early ? "run.early_stopping.patience_evaluations" : "run.epochs or run.max_steps"));
    const std::optional<FileDigest>& best = checkpoint->manifest.best_file;
    if (best && !is_intact(folder.best(), *best)) {
      log::warn(format("{} is not the file that the run has written: it is missing or damaged", folder.best()));
    }
  }
  return true;
}

/// What the labels of a checkpoint mean: the data must go on meaning it. Collective.
std::vector<std::string> classes_of(const std::optional<Checkpoint>& checkpoint, comm::Communicator& communicator) {
  std::optional<ModelCard> card;
  agree(communicator, [&] {
    if (checkpoint) card = read_model_card(checkpoint->model());
  });
  return card ? card->class_names : std::vector<std::string>();
}

/// A classifier that was trained for other classes is seldom meant to be kept. Says so on rank 0.
void warn_of_other_classes(const Configuration& configuration, const std::optional<Checkpoint>& checkpoint,
                           const data::Dataset& train, const comm::Communicator& communicator) {
  const ModelConfiguration& model = configuration.model;
  const bool keeps = model.init && model.init_skip.empty() && model.init_classifier == InitClassifier::of_file;
  if (communicator.rank() != 0 || checkpoint || !keeps) return;
  std::optional<ModelCard> card;
  if (attempt([&] { card = read_model_card(*model.init); }) || !card) return;  // it is refused when it is loaded
  if (card->class_names.empty() || card->class_names == train.class_names()) return;
  log::warn(
      format("{}: trained for other classes than those of the training data, or in another order; to begin with a "
             "new classifier set model.init_classifier: new",
             *model.init));
}

/// What a user does with a run that is over.
void say_what_is_next(const RunFolder& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder.best(), ignored)) return;
  log::info(format("next: dcs3gd-train --eval {0}, dcs3gd-predict {0} PHOTOS, dcs3gd-report {0}", folder.path()));
}

/// `listing`: of count_classes().
int train(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator,
          Process& process, std::string listing) {
  StopSignals& signals = process.signals;
  std::optional<TimeLimit>& time_limit = process.time_limit;
  agree(communicator, [&] {
    if (!time_limit) time_limit.emplace(configuration.run.time_limit_minutes, std::getenv);
  });
  signals.set_patience(configuration.comm.timeout_s, time_limit->killed_in_s());
  const ThreadPlan threads = use_threads(configuration.run.threads, communicator);
  const RunFolder folder(configuration.run.output_dir, configuration.run.name);
  // Whatever can be refused is refused before anything is written.
  expect_shared(communicator, folder);
  std::optional<RunFolderClaim> claim;
  RunStart run_start{.card = card_of_rank_0(communicator, [&] { return model_card(configuration); }),
                     .threads = threads,
                     .command = command_line.verbatim};
  run_start.checkpoint =
      prepare_resume(configuration, command_line, run_start.card, folder, process, communicator, claim);
  if (says_finished(configuration, folder, run_start.checkpoint, communicator)) return 0;
  agree(communicator, [&] {
    if (run_start.checkpoint && communicator.rank() == 0) {
      expect_steps_left(folder, *run_start.checkpoint, configuration.run);
    }
  });
  std::optional<nn::Graph> graph;
  agree(communicator, [&] { graph.emplace(training_graph(run_start.card, configuration)); });
  const Datasets datasets =
      open_datasets(configuration, communicator, classes_of(run_start.checkpoint, communicator), std::move(listing));
  agree(communicator, [&] { steps_per_epoch(configuration, communicator.size(), *datasets.train); });
  warn_of_other_classes(configuration, run_start.checkpoint, *datasets.train, communicator);
  run_start.convolutions =
      tune_convolutions(*graph, configuration, communicator, run_start.checkpoint ? folder.convolutions() : "");
  run_start.signals = &signals;
  run_start.stop_wanted = [&] {
    process.has_begun = true;
    return signals.received() || time_limit->is_up();
  };
  std::optional<Trainer> trainer;
  agree(communicator, [&] { trainer.emplace(configuration, datasets, communicator, folder, run_start); });
  expect_same(communicator, ErrorKind::input, "data set", trainer->data_fingerprint(),
              "let data.train and data.eval lead to the same files on all hosts");
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    const bool anew = command_line.resume == ResumeMode::never && !process.has_begun;
    if (!claim) claim.emplace(folder, anew ? IfUsed::set_aside : IfUsed::refuse);
    write_file_atomically(folder.config(), to_yaml(configuration));
    write_file_atomically(folder.convolutions(), text_for_run(run_start.convolutions));
  });
  log::open({.rank = communicator.rank(),
             .rank_count = communicator.size(),
             .file = folder.log(communicator.rank()),
             .status_line = resolve_progress_style(configuration.output.progress) == ProgressStyle::bar});
  if (const auto left_s = time_limit->left_s(); left_s && communicator.rank() == 0) {
    log::info(format("time limit: in {}", format_duration(*left_s)));
  }
  const RunEnd end = trainer->train(claim ? &*claim : nullptr);
  if (communicator.rank() == 0) {
    if (end == RunEnd::stopped) {
      log::info(format("stopped {}; the same command continues the run", time_limit->is_up()  ? "by its time limit"
                                                                         : signals.received() ? "by a signal"
                                                                                              : "before its end"));
    }
    say_what_is_next(folder);
  }
  return end == RunEnd::done ? 0 : kExitStopped;
}

constexpr std::size_t kWorstClasses = 20;

/// --eval: a model on the evaluation part of the data; the run's best model unless another is named. What the file
/// says of its model holds; the configuration's model is for files of other programs.
void evaluate(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator) {
  const ThreadPlan threads = use_threads(configuration.run.threads, communicator);
  std::string file;
  agree(communicator, [&] {
    const std::string& named = command_line.evaluate_path;
    file = weights_file(named.empty() ? RunFolder(configuration.run.output_dir, configuration.run.name).path() : named);
  });
  const ModelCard card = card_of_rank_0(communicator, [&] {
    const std::optional<ModelCard> own = read_model_card(file);
    return own ? *own : model_card(configuration);
  });
  std::optional<nn::Graph> graph;
  agree(communicator, [&] { graph.emplace(build_graph(card)); });
  const nn::ConvolutionChoices convolutions = tune_convolutions(*graph, configuration, communicator);
  const data::DataOptions data = data_for(card, configuration.data);
  const auto dataset = open_dataset(data, data::Part::eval, configuration.run.seed, card.settings.classes, communicator,
                                    card.class_names);
  std::optional<Model> model;
  agree(communicator, [&] {
    model.emplace(std::move(*graph), network_options(configuration, convolutions), InitialWeights{.file = file},
                  communicator.rank());
  });
  std::optional<PredictionFile> predictions;
  if (!command_line.predictions_path.empty()) {
    predictions.emplace(communicator, command_line.predictions_path, *dataset);
  }
  Confusion confusion(card.settings.classes);
  const auto batch_done = [&](const data::Batch& batch, std::span<const float> logits) {
    confusion.add(batch, logits);
    if (predictions) predictions->add(batch, logits);
  };
  model->broadcast(communicator);
  Evaluator evaluator(communicator, model->network, dataset, data,
                      data::loader_thread_count(data.loader.threads, threads.spare));
  const Evaluation result = evaluator.evaluate(model->weights, model->statistics.local(), batch_done);
  if (predictions) predictions->commit();
  confusion.sum(communicator);
  if (communicator.rank() != 0) return;
  log::info(format("{}: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images)", file, 100 * result.top1,
                   100 * result.top5, result.loss, result.images));
  for (const std::string& line : confusion.worst_classes(card.class_names, kWorstClasses)) log::info(line);
}

int run_on_ranks(Configuration configuration, const CommandLine& command_line, comm::Communicator& communicator,
                 std::optional<Process>& process) {
  agree(communicator, expect_room_for_libraries);
  ClassCount count;
  if (command_line.action == Action::train || command_line.action == Action::dry_run) {
    count = count_classes(configuration, communicator);
    configuration.model.classes = count.classes;
  }
  switch (command_line.action) {
    case Action::train:
      return train(configuration, command_line, communicator, *process, std::move(count.listing));
    case Action::evaluate:
      evaluate(configuration, command_line, communicator);
      break;
    case Action::dry_run:
      dry_run(configuration, communicator, use_threads(configuration.run.threads, communicator), command_line.verbatim,
              std::move(count.listing));
      break;
    case Action::print_config:
      if (communicator.rank() == 0) std::fputs(printed(configuration).c_str(), stdout);
      flush_output();
      break;
    case Action::init_config:
    case Action::print_keys:
    case Action::show_version:
    case Action::show_help:
      break;
  }
  return 0;
}

/// What needs no configuration and no other ranks.
std::optional<std::string> answer(const CommandLine& command_line) {
  switch (command_line.action) {
    case Action::show_help:
      return help_text();
    case Action::show_version:
      return format("dcs3gd-train {}, build {}\n{}\n", kVersion, build_id(), nn::describe_machine());
    case Action::print_keys:
      return key_tables();
    case Action::init_config:
      return first_configuration(command_line.photos);
    default:
      return std::nullopt;
  }
}

}  // namespace

int run_train_command(const CommandLine& command_line) {
  if (const auto text = answer(command_line)) return std::fputs(text->c_str(), stdout), flush_output(), 0;
  // First of all: what is asked to stop while it starts does so as it does later.
  std::optional<Process> process;
  if (command_line.action == Action::train) process.emplace();
  // All ranks read the configuration and would refuse it: they meet first, so that it is said once.
  Configuration configuration;
  const std::optional<Error> refusal = attempt([&] { configuration = load_configuration(command_line); });
  const auto communicator = comm::Communicator::open(configuration.comm);
  int starts = 0;
  const int exit_code = exit_code_in_job(*communicator, [&] {
    if (process) process->signals.step_begins();  // a start that hangs can be stopped
    if (starts++ > 0) log::open({.rank = communicator->rank(), .rank_count = communicator->size()});  // another number
    agree(*communicator, refusal);
    expect_same(*communicator, ErrorKind::input, "version, command line or configuration",
                format("dcs3gd-train {}, build {}\n{}\n{}", kVersion, build_id(), to_line(command_line),
                       to_lines(configuration)),
                "start the same program with the same command line and configuration on all ranks");
    return run_on_ranks(configuration, command_line, *communicator, process);
  });
  log::close();
  return exit_code;
}

}  // namespace dcs3gd::app
