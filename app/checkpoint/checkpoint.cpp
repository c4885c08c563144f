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
  const InputFile file(path);
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
      const InputFile file(format("{}/{}", path, kManifestFile));
      manifest_text.resize(file.size());
      file.read(0, std::as_writable_bytes(std::span(manifest_text)));
      parse_manifest(manifest_text);
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
void load_workers(const Checkpoint& checkpoint, int rank, AlgorithmState& state, RunningStatistics& statistics) {
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

StateArray* find(std::vector<StateArray>& arrays, std::string_view name) {
  const auto found = std::ranges::find(arrays, name, &StateArray::name);
  return found == arrays.end() ? nullptr : &*found;
}

/// The mean of the saved workers' velocities, for each of another number of workers. Collective.
void load_average_velocity(comm::Communicator& communicator, const Checkpoint& checkpoint, AlgorithmState& state,
                           RunningStatistics& statistics) {
  const bool is_shared = find(state.shared, "velocity") != nullptr;
  if (is_shared) {
    agree(communicator, [&] {
      load_safetensors(format("{}/{}", checkpoint.path, kSharedFile), parts_of<ParameterArena>(state.shared));
    });
    return;
  }
  const auto& layout = state.shared.front().values->shared_layout();
  ParameterArena sum(layout);
  agree(communicator, [&] {
    ParameterArena other_statistics(statistics.local().shared_layout());
    for (int worker = communicator.rank(); worker < checkpoint.manifest.workers(); worker += communicator.size()) {
      std::vector<StateArray>& scratch = state.workers.front();
      auto parts = parts_of<ParameterArena>(scratch);
      parts.emplace_back(&other_statistics, kStatisticsPrefix);
      load_safetensors(format("{}/{}", checkpoint.path, worker_file(worker)), parts);
      add(find(scratch, "velocity")->values->values(), sum.values());
    }
  });
  communicator
      .plan_all_reduce({.values = sum.values(),
                        .factor = 1 / static_cast<float>(checkpoint.manifest.workers()),
                        .wire = comm::Wire::fp32})
      .start()
      .wait();
  for (std::vector<StateArray>& worker : state.workers) {
    std::ranges::copy(sum.values(), find(worker, "velocity")->values->values().begin());
    std::ranges::fill(find(worker, "update")->values->values(), 0.0F);
  }
}

}  // namespace

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
              Extent::all_ranks);
}

Checkpoint open_checkpoint(comm::Communicator& communicator, const std::string& path) {
  std::string wrong;
  if (auto checkpoint = try_open(communicator, path, wrong)) return *checkpoint;
  throw Error(ErrorKind::input, format("--resume {}: {}", path, wrong), Extent::all_ranks);
}

void set_aside_later_checkpoints(const std::string& folder, std::int64_t step) {
  for (const std::int64_t later : checkpoint_steps(folder)) {
    if (later <= step) continue;
    const std::string path = format("{}/{}", folder, checkpoint_name(later));
    int number = 1;
    while (fs::exists(format("{}.{}", path, number))) ++number;
    rename_durably(path, format("{}.{}", path, number));
    log::warn(format("renamed {} to {}.{}: the run goes on from step {}", path, path, number, step));
  }
}

void restore_checkpoint(comm::Communicator& communicator, const Checkpoint& checkpoint, UpdateAlgorithm& algorithm,
                        RunningStatistics& statistics) {
  AlgorithmState state = algorithm.state();
  const int workers = static_cast<int>(state.workers.size()) * communicator.size();
  if (workers == checkpoint.manifest.workers()) {
    agree(communicator, [&] { load_workers(checkpoint, communicator.rank(), state, statistics); });
  } else {
    load_average_velocity(communicator, checkpoint, state, statistics);
  }
  algorithm.restart();
}

}  // namespace dcs3gd::app
