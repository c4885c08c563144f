#include "app/train_command.h"

#include <cstdio>
#include <filesystem>
#include <optional>

#include "app/agreement.h"
#include "app/convolutions.h"
#include "app/dry_run.h"
#include "app/file_io.h"
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
  if (command_line.resume == ResumeMode::path) {
    throw Error(ErrorKind::input,
                "--resume PATH is not supported by this version, which writes no checkpoints; use --resume never");
  }
  return parse_configuration(read_configuration_file(file, command_line.overrides), nn::model_names());
}

void train(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator) {
  const ThreadPlan threads = use_threads(configuration.run.threads, communicator);
  const RunFolder folder(configuration.run.output_dir, configuration.run.name);
  const nn::ConvolutionChoices convolutions = choose_convolutions(configuration, communicator);
  // Whatever can be refused is refused before anything is written.
  std::optional<Trainer> trainer;
  agree(communicator,
        [&] { trainer.emplace(configuration, communicator, folder, convolutions, threads, command_line.verbatim); });
  expect_same(communicator, ErrorKind::input, "data set", trainer->data_fingerprint(),
              "let data.train and data.eval lead to the same files on all hosts");
  std::optional<RunFolderClaim> claim;
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    claim.emplace(folder, command_line.resume == ResumeMode::never ? IfUsed::set_aside : IfUsed::refuse);
    write_file_atomically(folder.config(), to_yaml(configuration));
  });
  log::open({.rank = communicator.rank(),
             .rank_count = communicator.size(),
             .file = folder.log(communicator.rank()),
             .status_line = resolve_progress_style(configuration.output.progress) == ProgressStyle::bar});
  trainer->train();
}

/// --eval: a model on the evaluation part of the data; the run's own final model unless a file is named.
void evaluate(const Configuration& configuration, const CommandLine& command_line, comm::Communicator& communicator) {
  const ThreadPlan threads = use_threads(configuration.run.threads, communicator);
  Configuration with_weights = configuration;
  with_weights.model.init = command_line.evaluate_path.empty()
                                ? RunFolder(configuration.run.output_dir, configuration.run.name).model()
                                : command_line.evaluate_path;
  with_weights.model.init_skip.clear();
  const nn::ConvolutionChoices convolutions = choose_convolutions(with_weights, communicator);
  std::shared_ptr<const data::Dataset> dataset;
  std::optional<Model> model;
  agree(communicator, [&] {
    dataset =
        data::open_dataset(configuration.data, data::Part::eval, configuration.run.seed, configuration.model.classes);
    model.emplace(with_weights, convolutions, communicator.rank());
  });
  model->broadcast(communicator);
  Evaluator evaluator(communicator, model->network, dataset, configuration.data,
                      data::loader_thread_count(configuration.data.loader.threads, threads.spare));
  const Evaluation result = evaluator.evaluate(model->weights, model->statistics.local());
  if (communicator.rank() == 0) {
    log::info(format("{}: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images)", *with_weights.model.init,
                     100 * result.top1, 100 * result.top5, result.loss, result.images));
  }
}

void print_configuration(const Configuration& configuration, const comm::Communicator& communicator) {
  if (communicator.rank() == 0) std::fputs(to_yaml(configuration).c_str(), stdout);
}

void run_on_ranks(const Configuration& configuration, const CommandLine& command_line,
                  comm::Communicator& communicator) {
  switch (command_line.action) {
    case Action::train:
      return train(configuration, command_line, communicator);
    case Action::evaluate:
      return evaluate(configuration, command_line, communicator);
    case Action::dry_run:
      return dry_run(configuration, communicator, use_threads(configuration.run.threads, communicator),
                     command_line.verbatim);
    case Action::print_config:
      return print_configuration(configuration, communicator);
    case Action::show_version:
    case Action::show_help:
      return;
  }
}

}  // namespace

int run_train_command(const CommandLine& command_line) {
  if (command_line.action == Action::show_help) return std::fputs(help_text().c_str(), stdout), 0;
  if (command_line.action == Action::show_version) return std::printf("dcs3gd-train %s\n", kVersion), 0;
  // All ranks read the configuration and would refuse it: they meet first, so that it is said once.
  Configuration configuration;
  const std::optional<Error> refusal = attempt([&] { configuration = load_configuration(command_line); });
  const auto communicator = comm::Communicator::open(configuration.comm);
  const int exit_code = exit_code_in_job(*communicator, [&] {
    agree(*communicator, refusal);
    expect_same(*communicator, ErrorKind::input, "version or configuration",
                format("dcs3gd-train {}\n{}", kVersion, to_lines(configuration)),
                "start the same program with the same configuration on all ranks");
    run_on_ranks(configuration, command_line, *communicator);
  });
  log::close();
  return exit_code;
}

}  // namespace dcs3gd::app
