#include "app/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/log.h"
#include "core/trace.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

using Digests = std::map<std::string, FileDigest>;

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

void create_anew(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw Error(ErrorKind::failure, format("cannot remove {}: {}", folder, error.message()));
  create_folders_durably(folder);
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

/// Removes all but the newest `keep`, and what unfinished ones have left.
void prune(const std::string& folder, int keep) {
  std::vector<std::string> outdated = unfinished_checkpoints(folder);
  const std::vector<std::int64_t> steps = checkpoint_steps(folder);
  for (std::size_t i = static_cast<std::size_t>(keep); i < steps.size(); ++i) {
    outdated.push_back(format("{}/{}", folder, checkpoint_name(steps[i])));
  }
  for (const std::string& path : outdated) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) log::warn(format("cannot remove the old checkpoint {}: {}", path, error.message()));
  }
}

}  // namespace

std::vector<CheckpointFile> checkpoint_files(int rank, const CheckpointContent& content) {
  std::vector<CheckpointFile> files;
  if (rank == 0) {
    files.push_back(
        {kModelFile, {&content.mean_model, &content.mean_statistics}, content.model_metadata, {&content.frozen}});
    files.push_back({kSharedFile, parts_of<const ParameterArena>(content.state.shared)});
    if (content.average != nullptr) files.push_back({kAverageFile, {content.average}});
  }
  if (content.is_of_mean_worker) {
    if (rank != 0) return files;
    auto parts = parts_of<const ParameterArena>(content.state.mean);
    parts.emplace_back(&content.mean_statistics, kStatisticsPrefix);
    files.push_back({worker_file(0), std::move(parts)});
    return files;
  }
  const int count = static_cast<int>(content.state.workers.size());
  for (int k = 0; k < count; ++k) {
    auto parts = parts_of<const ParameterArena>(content.state.workers[static_cast<std::size_t>(k)]);
    parts.emplace_back(&content.local_statistics, kStatisticsPrefix);
    files.push_back({worker_file(rank * count + k), std::move(parts)});
  }
  if (!content.state.rank.empty())
    files.push_back({rank_file(rank), parts_of<const ParameterArena>(content.state.rank)});
  return files;
}

CheckpointCopy::CheckpointCopy(const std::vector<CheckpointFile>& files) {
  for (const CheckpointFile& file : files) {
    for (const auto& part : file.arrays) arrays_.emplace_back(part.arena->shared_layout());
  }
}

std::vector<CheckpointFile> CheckpointCopy::take(std::vector<CheckpointFile> files) {
  auto copy = arrays_.begin();
  for (CheckpointFile& file : files) {
    for (auto& part : file.arrays) {
      std::ranges::copy(part.arena->values(), copy->values().begin());
      part.arena = &*copy++;
    }
  }
  return files;
}

CheckpointWriter::CheckpointWriter(comm::Communicator& communicator, std::string folder, int keep,
                                   std::function<void()> expect_held)
    : communicator_(communicator),
      folder_(std::move(folder)),
      keep_(keep),
      expect_held_(std::move(expect_held)),
      task_("dcs3gd-save") {}

void CheckpointWriter::begin(CheckpointManifest manifest, std::vector<CheckpointFile> files) {
  path_ = format("{}/{}", folder_, checkpoint_name(manifest.position.step));
  temporary_ = path_ + kUnfinishedSuffix;
  manifest_ = std::move(manifest);
  own_files_.clear();
  const auto create = [this] {
    expect_held_();
    if (const fs::path run = fs::path(folder_).parent_path(); !fs::exists(run)) {
      log::warn(format("the run folder {} has vanished; it is made anew, without what was in it", run.string()));
    }
    create_anew(temporary_);
  };
  if (communicator_.rank() == 0) task_.start(create);
  all_done(communicator_, task_, path_);
  agree(communicator_, task_.wait());
  task_.start([this, files = std::move(files)] { write_files(files); });
  stage_ = Stage::files;
}

bool CheckpointWriter::wait(double patience_s) const { return all_done(communicator_, task_, path_, patience_s); }

bool CheckpointWriter::advance() {
  if (stage_ == Stage::none) return false;
  const Stage stage = std::exchange(stage_, Stage::none);
  try {
    agree(communicator_, task_.wait());
  } catch (const Error&) {
    std::error_code ignored;
    const bool is_ours = communicator_.rank() == 0 && !attempt(expect_held_);
    if (is_ours) fs::remove_all(temporary_, ignored);
    throw;
  }
  if (stage == Stage::manifest) return true;
  for (const std::string& blob : communicator_.gather_at_rank_0(pack(own_files_))) unpack(blob, manifest_.files);
  if (communicator_.rank() == 0) task_.start([this] { publish(); });
  stage_ = Stage::manifest;
  return false;
}

void CheckpointWriter::write_files(const std::vector<CheckpointFile>& files) {
  const trace::Span span("checkpoint", "write files");
  if (communicator_.rank() == 0) expect_held_();
  for (const CheckpointFile& file : files) {
    std::vector<ArenaPart<const ParameterArena>> arrays = file.arrays;
    arrays.insert(arrays.end(), file.constants.begin(), file.constants.end());
    own_files_[file.name] = save_safetensors(format("{}/{}", temporary_, file.name), arrays, file.metadata);
  }
}

/// Gives the whole folder its name.
void CheckpointWriter::publish() {
  const trace::Span span("checkpoint", "publish");
  check_visible(temporary_, manifest_.files);
  expect_held_();
  write_file_atomically(format("{}/{}", temporary_, kManifestFile), to_text(manifest_));
  expect_held_();
  rename_durably(temporary_, path_);
  prune(folder_, keep_);
}

}  // namespace dcs3gd::app
