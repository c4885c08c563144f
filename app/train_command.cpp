#include "app/train_command.h"

#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "app/dry_run.h"
#include "app/file_io.h"
#include "app/safetensors.h"
#include "app/trainer.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/version.h"
#include "nn/model_zoo.h"

namespace dcs3gd::app {
namespace {

/// Where configurations are found by name: beside the build's bin folder in a checkout, and where they are installed.
std::vector<std::filesystem::path> configuration_folders() {
  const std::filesystem::path bin = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return {bin / "../../../configs", bin / "../share/dcs3gd-train/configs"};
}

Configuration load_configuration(const CommandLine& command_line) {
  const std::filesystem::path file = find_configuration_file(command_line.config, configuration_folders());
  return parse_configuration(read_configuration_file(file, command_line.overrides), nn::model_names());
}

ThreadPlan set_up_threads(const Configuration& configuration, comm::Communicator& communicator) {
  const ThreadPlan threads = plan_threads(configuration.run.threads, std::getenv("OMP_NUM_THREADS"),
                                          communicator.places(), communicator.rank());
  omp_set_num_threads(threads.compute);
  communicator.pin_progress_thread(threads.compute);
  return threads;
}

void train(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator) {
  const ThreadPlan threads = set_up_threads(configuration, communicator);
  const Datasets datasets(configuration);
  const RunFolder folder(configuration.run.output_dir, configuration.run.name);
  std::optional<RunFolderClaim> claim;
  if (communicator.rank() == 0) {
    claim.emplace(folder, command_line.resume == ResumeMode::never ? IfUsed::set_aside : IfUsed::refuse);
    write_file_atomically(folder.config(), to_yaml(configuration, YamlStyle::explained));
  }
  communicator.barrier();
  log::open({.rank = communicator.rank(),
             .rank_count = communicator.size(),
             .file = folder.log(communicator.rank()),
             .status_line = resolve_progress_style(configuration.output.progress) == ProgressStyle::bar});
  Trainer trainer(configuration, communicator, datasets, folder, threads, command_line.verbatim);
  trainer.train();
}

/// --eval: a model on the evaluation part of the data; the run's own final model unless a file is named.
void evaluate(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator) {
  const ThreadPlan threads = set_up_threads(configuration, communicator);
  Configuration with_weights = configuration;
  with_weights.model.init = command_line.evaluate_path.empty()
                                ? RunFolder(configuration.run.output_dir, configuration.run.name).model()
                                : command_line.evaluate_path;
  with_weights.model.init_skip.clear();
  const auto dataset =
      data::open_dataset(configuration.data, data::Part::eval, configuration.run.seed, configuration.model.classes);
  Model model(with_weights, communicator);
  Evaluator evaluator(communicator, model.network, dataset, configuration.data,
                      data::loader_thread_count(configuration.data.loader.threads, threads.spare));
  const Evaluation result = evaluator.evaluate(model.weights, model.statistics.local());
  if (communicator.rank() == 0) {
    log::info(format("{}: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images)", *with_weights.model.init,
                     100 * result.top1, 100 * result.top5, result.loss, result.images));
  }
}

void run_on_ranks(const Configuration& configuration, const CommandLine& command_line,
                  comm::Communicator& communicator) {
  switch (command_line.action) {
    case Action::train: return train(configuration, command_line, communicator);
    case Action::evaluate: return evaluate(configuration, command_line, communicator);
    case Action::dry_run: return dry_run(configuration, communicator, set_up_threads(configuration, communicator));
    default: return;
  }
}

}  // namespace

int run_train_command(const CommandLine& command_line) {
  if (command_line.action == Action::show_help) return std::fputs(help_text().c_str(), stdout), 0;
  if (command_line.action == Action::show_version) return std::printf("dcs3gd-train %s\n", kVersion), 0;
  const Configuration configuration = load_configuration(command_line);
  if (command_line.action == Action::print_config) {
    return std::fputs(to_yaml(configuration, YamlStyle::explained).c_str(), stdout), 0;
  }
  const auto communicator = comm::Communicator::open(configuration.comm);
  try {
    run_on_ranks(configuration, command_line, *communicator);
  } catch (const Error& error) {
    log::close();
    if (communicator->size() > 1) communicator->abort(error.what(), error.exit_code());
    throw;
  }
  log::close();
  return 0;
}

}  // namespace dcs3gd::app
