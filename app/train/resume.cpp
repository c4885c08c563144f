#include "app/train/resume.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "app/record/metrics.h"
#include "app/train/early_stopping.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

/// Values by key, of lines "key: value".
std::map<std::string, std::string> values_by_key(std::istream&& lines) {
  std::map<std::string, std::string> values;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) values[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return values;
}

std::map<std::string, std::string> values_by_key(const Configuration& configuration) {
  return values_by_key(std::istringstream(to_lines(configuration)));
}

bool is_at_end(const Checkpoint& checkpoint, const RunConfiguration& run) {
  const data::Position& position = checkpoint.manifest.position;
  return position.epoch >= run.epochs || (run.max_steps && position.step >= *run.max_steps);
}

/// Where --resume PATH leads: a checkpoint, a run folder that has some, or the folder of these. Collective.
Checkpoint checkpoint_at(comm::Communicator& communicator, const std::string& path) {
  std::error_code ignored;
  const bool are_checkpoints = (fs::path(path) / "").parent_path().filename() == "checkpoints";
  const std::string below = are_checkpoints ? path : path + "/checkpoints";
  const std::string folder = communicator.from_rank_0(fs::is_directory(below, ignored) ? below : "");
  if (folder.empty()) return open_checkpoint(communicator, path);
  if (auto newest = find_newest_checkpoint(communicator, folder)) return *newest;
  throw Error(ErrorKind::input, format("--resume {}: there is no checkpoint in {}", path, folder),
              ErrorScope::all_ranks);
}

}  // namespace

std::optional<Checkpoint> find_checkpoint(comm::Communicator& communicator, const RunFolder& folder, ResumeMode mode,
                                          const std::string& path) {
  if (mode == ResumeMode::never) return std::nullopt;
  if (mode == ResumeMode::path) return checkpoint_at(communicator, path);
  auto newest = find_newest_checkpoint(communicator, folder.checkpoints());
  agree(communicator, [&] {
    if (communicator.rank() != 0 || newest || !folder.is_used()) return;
    if (fs::exists(folder.model())) {
      throw Error(
          ErrorKind::input,
          format("the run folder {} holds the results of an earlier run and no checkpoint to go on from; choose "
                 "another run.name, or rename it to {}.1 with --resume never",
                 folder.path(), folder.path()));
    }
    log::info(format("the earlier run in {} ended before its first checkpoint: starting again", folder.path()));
  });
  return newest;
}

void expect_own(const RunFolder& folder, const std::string& path) {
  const std::string inside = fs::weakly_canonical(path).string() + "/";
  if (inside.starts_with(fs::weakly_canonical(folder.path()).string() + "/")) return;
  throw Error(ErrorKind::input,
              format("--resume {}: the run folder {} holds another run already; choose another run.name, or leave "
                     "--resume out to continue what is there",
                     path, folder.path()));
}

std::string changed_settings(const Checkpoint& checkpoint, const Configuration& configuration,
                             const std::function<bool(const std::string& key)>& counts) {
  std::string saved_lines;
  for (const std::string& line : checkpoint.manifest.configuration) saved_lines += line + "\n";
  const auto saved = values_by_key(std::istringstream(saved_lines));
  // A key that the checkpoint does not know came with a later version: what it began with is what was done before.
  Configuration before;
  before.algorithm = AlgorithmOptions();
  const auto defaults = values_by_key(before);
  std::string differences;
  for (const auto& [key, value] : values_by_key(configuration)) {
    const auto found = saved.find(key);
    const std::string& old = found == saved.end() ? defaults.at(key) : found->second;
    if (old != value && counts(key)) differences += format("\n  {}: {} -> {}", key, old, value);
  }
  return differences;
}

void expect_continuable(const Checkpoint& checkpoint, const Configuration& configuration) {
  const bool is_synchronous = configuration.algorithm.name == "ssgd";  // what is stale of others is nothing to it
  const std::string differences = changed_settings(checkpoint, configuration, [&](const std::string& key) {
    const bool is_of_stale = key == "algorithm.fresh" || key == "algorithm.own_momentum";
    return !may_change_on_resume(key) && !(is_synchronous && is_of_stale);
  });
  if (differences.empty()) return;
  throw Error(ErrorKind::input,
              format("{} cannot be continued with another configuration; these keys differ (old -> new):{}\nSet them "
                     "back, choose another run.name, or start anew with --resume never",
                     checkpoint.path, differences));
}

void expect_same_network(const Checkpoint& checkpoint, const ModelCard& card) {
  const std::optional<ModelCard> saved = read_model_card(checkpoint.model());
  if (!saved || saved->network == card.network) return;
  throw Error(ErrorKind::input,
              format("{} cannot be continued with another network: {} does not describe what it was trained with; take "
                     "the edit back, choose another run.name, or start anew with --resume never",
                     checkpoint.path, card.name));
}

bool is_of(const RunFolder& folder, const Checkpoint& checkpoint) {
  std::error_code ignored;
  return fs::equivalent(fs::path(checkpoint.path).parent_path(), folder.checkpoints(), ignored);
}

void expect_steps_left(const RunFolder& folder, const Checkpoint& checkpoint, const RunConfiguration& run) {
  if (is_of(folder, checkpoint)) return;
  if (EarlyStopping(run.early_stopping, checkpoint.manifest.rule).is_over()) {
    throw Error(
        ErrorKind::input,
        format("{} is where early stopping ended its run: raise run.early_stopping.patience_evaluations, or begin "
               "with its weights: --set model.init={} and --resume never",
               checkpoint.path, checkpoint.model()));
  }
  if (!is_at_end(checkpoint, run)) return;
  const data::Position& position = checkpoint.manifest.position;
  throw Error(
      ErrorKind::input,
      format("{} is after epoch {}, step {}: nothing is left to do of {}; raise run.epochs or run.max_steps, or "
             "begin with its weights: --set model.init={} and --resume never",
             checkpoint.path, position.epoch, position.step,
             run.max_steps ? counted(*run.max_steps, "step") : counted(run.epochs, "epoch"), checkpoint.model()));
}

bool is_finished(const RunFolder& folder, const Checkpoint& checkpoint, const RunConfiguration& run) {
  const bool is_over =
      is_at_end(checkpoint, run) || EarlyStopping(run.early_stopping, checkpoint.manifest.rule).is_over();
  if (!is_over || !is_of(folder, checkpoint) || read_status(folder.summary()) != "done") return false;
  const auto& files = checkpoint.manifest.files;
  // The run's own model is that of the checkpoint, or the average over steps, of which no digest is kept.
  std::error_code ignored;
  return files.contains(kAverageFile) ? fs::exists(folder.model(), ignored)
                                      : is_intact(folder.model(), files.at(kModelFile));
}

}  // namespace dcs3gd::app
