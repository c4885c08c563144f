#include "app/checkpoint.h"

#include <algorithm>
#include <functional>
#include <sstream>
#include <system_error>
#include <vector>

#include "app/agreement.h"
#include "app/file_io.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::size_t kStepDigits = 8;  // at least
constexpr std::size_t kReadBytes = std::size_t{1} << 20;
constexpr const char* kManifest = "manifest.json";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kShared = "shared.state";
constexpr const char* kStatisticsPrefix = "statistics.";

std::string worker_file(int worker) { return format("worker-{:05}.state", worker); }

/// The step of a checkpoint's folder; none for any other name, such as that of an unfinished one.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string digits = name.substr(kPrefix.size());
  const bool is_number = digits.size() >= kStepDigits && digits.size() <= 18 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::optional(std::stoll(digits)) : std::nullopt;
}

/// The steps there are checkpoints of, the newest first.
std::vector<std::int64_t> steps_in(const std::string& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (const auto step = step_of(entry->path().filename().string())) steps.push_back(*step);
  }
  std::ranges::sort(steps, std::greater());
  return steps;
}

[[noreturn]] void fail(const std::string& what, const std::error_code& error) {
  throw Error(ErrorKind::failure, format("{}: {}", what, error.message()));
}

void rename_or_throw(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(format("cannot rename {} to {}", from, to), error);
}

void sync_or_throw(const std::string& folder) {
  if (!sync_folder(folder))
    throw Error(ErrorKind::failure, format("cannot make {} durable: {}", folder, system_reason()));
}

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

/// The state's arrays as parts of a file, with their names as prefixes.
template <typename Arena>
std::vector<ArenaPart<Arena>> parts_of(const std::vector<StateArray>& arrays) {
  std::vector<ArenaPart<Arena>> parts;
  parts.reserve(arrays.size());
  for (const StateArray& array : arrays) parts.emplace_back(array.values, array.name + ".");
  return parts;
}

// --- saving ---

using Digests = std::map<std::string, FileDigest>;

/// The files of this rank.
Digests write_files(const std::string& folder, int rank, const CheckpointContent& content) {
  Digests files;
  if (rank == 0) {
    files[kModel] = save_safetensors(format("{}/{}", folder, kModel), {&content.mean_model, &content.mean_statistics},
                                     {{"format", "pt"}});
    files[kShared] =
        save_safetensors(format("{}/{}", folder, kShared), parts_of<const ParameterArena>(content.state.shared));
  }
  const int count = static_cast<int>(content.state.workers.size());
  for (int k = 0; k < count; ++k) {
    auto parts = parts_of<const ParameterArena>(content.state.workers[static_cast<std::size_t>(k)]);
    parts.emplace_back(&content.local_statistics, kStatisticsPrefix);
    const std::string name = worker_file(rank * count + k);
    files[name] = save_safetensors(format("{}/{}", folder, name), parts);
  }
  return files;
}

std::string pack(const Digests& files) {
  std::string text;
  for (const auto& [name, digest] : files) text += format("{} {} {}\n", name, digest.bytes, digest.hash);
  return text;
}

void unpack(const std::string& text, Digests& into) {
  std::istringstream lines(text);
  std::string name;
  for (FileDigest digest; lines >> name >> digest.bytes >> digest.hash;) into[name] = digest;
}

/// Whether rank 0 sees what all ranks have written.
void check_visible(const std::string& folder, const Digests& files) {
  for (const auto& [name, digest] : files) {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(format("{}/{}", folder, name), error);
    if (error || bytes != digest.bytes) {
      throw Error(ErrorKind::failure,
                  format("rank 0 does not see {}/{} as another rank has written it; let run.output_dir be on a file "
                         "system that all hosts share",
                         folder, name));
    }
  }
}

/// Gives the finished folder its name.
void publish(const std::string& temporary, const std::string& path) {
  rename_or_throw(temporary, path);
  sync_or_throw(fs::path(path).parent_path().string());
}

/// Removes all but the newest `keep`, and what unfinished ones have left.
void prune(const std::string& folder, int keep) {
  std::error_code error;
  std::vector<fs::path> outdated;
  const std::vector<std::int64_t> steps = steps_in(folder);
  for (std::size_t i = static_cast<std::size_t>(keep); i < steps.size(); ++i) {
    outdated.push_back(fs::path(folder) / checkpoint_name(steps[i]));
  }
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kPrefix) && name.find(".tmp") != std::string::npos) outdated.push_back(entry->path());
  }
  for (const fs::path& path : outdated) {
    fs::remove_all(path, error);
    if (error) log::warn(format("cannot remove the old checkpoint {}: {}", path.string(), error.message()));
  }
}

// --- finding ---

/// Collective: the checkpoint, or what is wrong with it. The ranks share the work of reading the files.
std::optional<Checkpoint> try_open(comm::Communicator& communicator, const std::string& path, std::string& wrong) {
  std::string manifest_text;
  std::optional<Error> problem;
  if (communicator.rank() == 0) {
    problem = attempt([&] {
      const InputFile file(format("{}/{}", path, kManifest));
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

  Checkpoint checkpoint{path, parse_manifest(communicator.all_gather(manifest_text)[0])};
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
  load_safetensors(format("{}/{}", checkpoint.path, kShared), parts_of<ParameterArena>(state.shared));
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
    agree(communicator,
          [&] { load_safetensors(format("{}/{}", checkpoint.path, kShared), parts_of<ParameterArena>(state.shared)); });
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
      .start_all_reduce({.values = sum.values(),
                         .factor = 1 / static_cast<float>(checkpoint.manifest.workers()),
                         .wire = comm::Wire::fp32})
      .wait();
  for (std::vector<StateArray>& worker : state.workers) {
    std::ranges::copy(sum.values(), find(worker, "velocity")->values->values().begin());
    std::ranges::fill(find(worker, "update")->values->values(), 0.0F);
  }
}

}  // namespace

std::string checkpoint_name(std::int64_t step) { return format("{}{:0{}}", kPrefix, step, kStepDigits); }

void save_checkpoint(comm::Communicator& communicator, const std::string& folder, CheckpointManifest manifest,
                     const CheckpointContent& content, int keep) {
  const int rank = communicator.rank();
  const std::string path = format("{}/{}", folder, checkpoint_name(manifest.position.step));
  const std::string temporary = path + ".tmp";
  std::error_code ignored;
  try {
    agree(communicator, [&] {
      if (rank != 0) return;
      std::error_code error;
      fs::remove_all(temporary, error);
      fs::create_directories(temporary, error);
      if (error) fail(format("cannot create {}", temporary), error);
    });
    Digests own;
    agree(communicator, [&] { own = write_files(temporary, rank, content); });
    for (const std::string& blob : communicator.all_gather(pack(own))) unpack(blob, manifest.files);
    agree(communicator, [&] {
      if (rank != 0) return;
      check_visible(temporary, manifest.files);
      write_file_atomically(format("{}/{}", temporary, kManifest), to_text(manifest));
      publish(temporary, path);
    });
  } catch (const Error&) {
    if (rank == 0) fs::remove_all(temporary, ignored);
    throw;
  }
  if (rank == 0) prune(folder, keep);
}

std::optional<Checkpoint> find_newest_checkpoint(comm::Communicator& communicator, const std::string& folder) {
  // Rank 0's list counts; a name a line.
  std::string names;
  if (communicator.rank() == 0) {
    for (const std::int64_t step : steps_in(folder)) names += checkpoint_name(step) + "\n";
  }
  std::istringstream lines(communicator.all_gather(names)[0]);
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
  for (const std::int64_t later : steps_in(folder)) {
    if (later <= step) continue;
    const std::string path = format("{}/{}", folder, checkpoint_name(later));
    int number = 1;
    while (fs::exists(format("{}.{}", path, number))) ++number;
    rename_or_throw(path, format("{}.{}", path, number));
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
