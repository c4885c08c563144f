#include "app/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <vector>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

FileDigest digest_of(const std::string& path) {
  const PositionedFile file = open_file(path);
  StreamingHash hash;
  std::vector<std::byte> piece(kReadBytes);
  for (std::uint64_t at = 0; at < file.size();) {
    const auto bytes =
        std::span(piece).first(static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, file.size() - at)));
    file.read(at, bytes);
    hash.add(bytes);
    at += bytes.size();
  }
  return {file.size(), hash.value()};
}

// --- finding ---

/// Collective: the checkpoint, or what is wrong with it. The ranks share the work of reading the files.
std::optional<Checkpoint> try_open(comm::Communicator& communicator, const std::string& path, std::string& wrong) {
  std::string manifest_text;
  std::optional<Error> problem;
  if (communicator.rank() == 0) {
    problem = attempt([&] {
      const PositionedFile file = open_file(format("{}/{}", path, kManifestFile));
      manifest_text.resize(file.size());
      file.read(0, std::as_writable_bytes(std::span(manifest_text)));
      const CheckpointManifest manifest = parse_manifest(manifest_text);
      const std::string name = fs::path(path).filename().string();
      const std::string own_name = checkpoint_name(manifest.position.step);
      if (name != own_name && step_of_checkpoint(name)) {
        throw Error(ErrorKind::input, format("it is {}, renamed", own_name));
      }
    });
  }
  const auto first_problem = [&] {
    for (const std::string& text : communicator.all_gather(problem ? problem->what() : "")) {
      if (!text.empty()) return text;
    }
    return std::string();
  };
  wrong = first_problem();
  if (!wrong.empty()) return std::nullopt;

  Checkpoint checkpoint{path, parse_manifest(communicator.from_rank_0(manifest_text))};
  problem = attempt([&] {
    int number = 0;
    for (const auto& [name, expected] : checkpoint.manifest.files) {
      if (number++ % communicator.size() != communicator.rank()) continue;
      const FileDigest found = digest_of(format("{}/{}", path, name));
      if (found == expected) continue;
      throw Error(ErrorKind::input, found.bytes == expected.bytes
                                        ? format("{} is damaged: its checksum is wrong", name)
                                        : format("{} has {} bytes instead of {}", name, found.bytes, expected.bytes));
    }
  });
  wrong = first_problem();
  return wrong.empty() ? std::optional(std::move(checkpoint)) : std::nullopt;
}

// --- restoring ---

/// The states of this rank's workers. The rank's running statistics are the mean of theirs.
void load_workers(const Checkpoint& checkpoint, int rank, RuleState& state, RunningStatistics& statistics) {
  load_safetensors(format("{}/{}", checkpoint.path, kSharedFile), parts_of<ParameterArena>(state.shared));
  const std::span<float> mean = statistics.local().values();
  ParameterArena own(statistics.local().shared_layout());
  const int count = static_cast<int>(state.workers.size());
  for (int k = 0; k < count; ++k) {
    auto parts = parts_of<ParameterArena>(state.workers[static_cast<std::size_t>(k)]);
    parts.emplace_back(&own, kStatisticsPrefix);
    load_safetensors(format("{}/{}", checkpoint.path, worker_file(rank * count + k)), parts);
    // In this form the mean of equal sets is that set, bit for bit.
    const float share = 1.0F / static_cast<float>(k + 1);
    for (std::size_t i = 0; i < mean.size(); ++i) {
      mean[i] = k == 0 ? own.values()[i] : mean[i] + share * (own.values()[i] - mean[i]);
    }
  }
}

/// Whether the checkpoint has the ranks' own arrays for these ranks.
bool has_rank_files(const Checkpoint& checkpoint, int ranks) {
  return checkpoint.manifest.ranks == ranks && checkpoint.manifest.files.contains(rank_file(0));
}

/// The state's arrays as parts of a file of this checkpoint; `unused` takes a worker's update beside its velocity.
std::vector<ArenaPart<ParameterArena>> saved_parts_of(const Checkpoint& checkpoint,
                                                      const std::vector<StateArray>& arrays,
                                                      std::optional<ParameterArena>& unused) {
  std::vector<StateArray> saved = arrays;
  for (StateArray& array : saved) {
    if (checkpoint.manifest.format == 1 && array.name == "update") array.name = "velocity";
  }
  std::vector<ArenaPart<ParameterArena>> parts = parts_of<ParameterArena>(saved);
  if (unused) parts.emplace_back(&*unused, "update.");
  return parts;
}

/// What a rule freshly made at the mean model lacks when the number of workers is another one: for each array that says
/// so the mean over the saved workers, or the saved one if all share it. The others stay as they are. Collective.
void load_for_other_workers(comm::Communicator& communicator, const Checkpoint& checkpoint, RuleState& state,
                            RunningStatistics& statistics) {
  std::optional<ParameterArena> unused;
  const auto is_averaged = [](const StateArray& array) { return array.on_resize == OnResize::average; };
  if (std::ranges::any_of(state.shared, is_averaged)) {
    agree(communicator, [&] {
      load_safetensors(format("{}/{}", checkpoint.path, kSharedFile), saved_parts_of(checkpoint, state.shared, unused));
    });
  }
  std::vector<StateArray>& loaded = state.workers.front();  // one saved worker after the other
  if (loaded.empty()) return;
  std::vector<ParameterArena> sums;
  sums.reserve(loaded.size());
  for (const StateArray& array : loaded) sums.emplace_back(array.values->shared_layout());
  agree(communicator, [&] {
    ParameterArena other_statistics(statistics.local().shared_layout());
    if (checkpoint.manifest.format == 1) unused.emplace(loaded.front().values->shared_layout());
    auto parts = saved_parts_of(checkpoint, loaded, unused);
    parts.emplace_back(&other_statistics, kStatisticsPrefix);
    for (int worker = communicator.rank(); worker < checkpoint.manifest.workers(); worker += communicator.size()) {
      load_safetensors(format("{}/{}", checkpoint.path, worker_file(worker)), parts);
      for (std::size_t i = 0; i < loaded.size(); ++i) {
        if (is_averaged(loaded[i])) add(loaded[i].values->values(), sums[i].values());
      }
    }
  });
  for (std::size_t i = 0; i < loaded.size(); ++i) {  // the sum of an array that is not averaged is its 0
    if (is_averaged(loaded[i])) {
      communicator
          .plan_all_reduce({.values = sums[i].values(),
                            .factor = 1 / static_cast<float>(checkpoint.manifest.workers()),
                            .wire = comm::Wire::fp32})
          .start()
          .wait();
    }
    for (std::vector<StateArray>& worker : state.workers) {
      std::ranges::copy(sums[i].values(), worker[i].values->values().begin());
    }
  }
}

/// u = −η v
void turn_velocities_into_updates(RuleState& state, double learning_rate) {
  const auto turn = [&](const std::vector<StateArray>& arrays) {
    for (const StateArray& array : arrays) {
      if (array.name == "update") scale(static_cast<float>(-learning_rate), array.values->values());
    }
  };
  turn(state.shared);
  for (const std::vector<StateArray>& worker : state.workers) turn(worker);
}

}  // namespace

bool is_intact(const std::string& path, const FileDigest& digest) {
  std::optional<FileDigest> found;
  attempt([&] { found = digest_of(path); });
  return found == digest;
}

std::optional<Checkpoint> find_newest_checkpoint(comm::Communicator& communicator, const std::string& folder) {
  // Rank 0's list counts; a name a line.
  std::string names;
  if (communicator.rank() == 0) {
    for (const std::int64_t step : checkpoint_steps(folder)) names += checkpoint_name(step) + "\n";
  }
  std::istringstream lines(communicator.from_rank_0(names));
  std::string wrong;
  std::string name;
  bool any = false;
  for (; std::getline(lines, name); any = true) {
    const std::string path = format("{}/{}", folder, name);
    if (auto checkpoint = try_open(communicator, path, wrong)) return checkpoint;
    if (communicator.rank() == 0) log::warn(format("the checkpoint {} cannot be used: {}", path, wrong));
  }
  if (!any) return std::nullopt;
  throw Error(ErrorKind::input,
              format("no checkpoint in {} is whole; restore one of them, or start anew with --resume never", folder),
              ErrorScope::all_ranks);
}

Checkpoint open_checkpoint(comm::Communicator& communicator, const std::string& path) {
  std::string wrong;
  if (auto checkpoint = try_open(communicator, path, wrong)) return *checkpoint;
  throw Error(ErrorKind::input, format("--resume {}: {}", path, wrong), ErrorScope::all_ranks);
}

std::string set_aside(const std::string& path) {
  int number = 1;
  while (fs::exists(format("{}.{}", path, number))) ++number;
  std::string aside = format("{}.{}", path, number);
  rename_durably(path, aside);
  return aside;
}

void set_aside_later_checkpoints(const std::string& folder, std::int64_t step) {
  for (const std::int64_t later : checkpoint_steps(folder)) {
    if (later <= step) continue;
    const std::string path = format("{}/{}", folder, checkpoint_name(later));
    log::warn(format("renamed {} to {}: the run goes on from step {}", path, set_aside(path), step));
  }
}

void restore_checkpoint(comm::Communicator& communicator, const Checkpoint& checkpoint, UpdateRule& rule,
                        RunningStatistics& statistics, double last_learning_rate) {
  RuleState state = rule.state();
  Restored restored = Restored::mean;
  if (checkpoint.is_exact_for(static_cast<int>(state.workers.size()) * communicator.size())) {
    restored =
        state.rank.empty() || has_rank_files(checkpoint, communicator.size()) ? Restored::all : Restored::workers;
    agree(communicator, [&] {
      load_workers(checkpoint, communicator.rank(), state, statistics);
      if (restored == Restored::all && !state.rank.empty()) {
        load_safetensors(format("{}/{}", checkpoint.path, rank_file(communicator.rank())),
                         parts_of<ParameterArena>(state.rank));
      }
    });
  } else {
    load_for_other_workers(communicator, checkpoint, state, statistics);
  }
  const std::map<std::string, double>& numbers = checkpoint.manifest.rule;
  for (const StateNumber& number : state.numbers) {
    if (const auto saved = numbers.find(number.name); saved != numbers.end()) *number.value = saved->second;
    if (checkpoint.manifest.format == 1 && number.name == "learning_rate") *number.value = last_learning_rate;
  }
  if (checkpoint.manifest.format == 1) turn_velocities_into_updates(state, last_learning_rate);
  rule.state_loaded(restored);
}

}  // namespace dcs3gd::app
