#include "app/record/mlflow_run.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>
#include <pwd.h>
#include <unistd.h>

#include "app/job/exit_code.h"
#include "app/record/scalars.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

std::int64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string new_id() {
  std::random_device random;
  return format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

std::string user() {
  const passwd* entry = ::getpwuid(::getuid());
  return entry == nullptr ? std::to_string(::getuid()) : entry->pw_name;
}

std::string file_uri(const fs::path& path) {
  std::string uri = "file://";
  for (const char c : path.string()) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          std::string_view("/-_.~").find(c) != std::string_view::npos;
    uri += is_plain ? std::string(1, c) : format("%{:02X}", static_cast<unsigned char>(c));
  }
  return uri;
}

/// Without bytes that are no UTF-8, such as a command line may hold: MLflow reads nothing else.
std::string as_utf8(const std::string& text) {
  using Json = nlohmann::json;
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

/// As text in YAML, whatever it looks like.
std::string quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : as_utf8(text)) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + '\'';
}

/// The files are small and many, and written anew at each start: they need not be durable one by one.
void write_file(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << as_utf8(text);
  file.close();
  if (!file) throw Error(ErrorKind::failure, format("cannot write {}: {}", path.string(), system_reason()));
}

/// Whether a metric's line is whole and of a step up to `last`.
bool is_kept(std::string_view line, std::int64_t last) {
  std::int64_t step = 0;
  if (!line.ends_with('\n')) return false;
  const char* begin = line.data() + line.rfind(' ') + 1;
  return std::from_chars(begin, line.data() + line.size(), step).ec == std::errc() && step <= last;
}

/// Takes back what a metric's file says of later steps.
void rewind(const fs::path& path, std::int64_t last) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string kept;
  for (std::size_t at = 0, end = 0; at < text.size(); at = end) {
    end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (is_kept(line, last)) kept += line;
  }
  if (kept.empty()) {
    fs::remove(path);  // MLflow takes an empty one for damage, and lists no run of the store any more
  } else if (kept.size() != text.size()) {
    write_file_atomically(path.string(), kept);
  }
}

void rewind_all(const fs::path& folder, std::int64_t last) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  for (const fs::path& file : files) {
    if (file.extension() == kUnfinishedSuffix) {
      fs::remove(file);  // a crash left it
    } else {
      rewind(file, last);
    }
  }
}

}  // namespace

MlflowRun::MlflowRun(const std::string& store, const RunFolder& run, const Settings& settings, std::int64_t step)
    : experiment_(fs::absolute(store) / "0"), name_(fs::path(run.path()).filename()), step_(step) {
  if (!(std::ifstream(run.mlflow()) >> id_ >> started_ms_)) {
    id_ = new_id();
    started_ms_ = now_ms();
    write_file_atomically(run.mlflow(), format("{} {}\n", id_, started_ms_));
  }
  folder_ = experiment_ / id_;
  for (const char* part : {"params", "metrics", "tags", "artifacts"}) create_folders_durably(folder_ / part);
  if (const fs::path meta = experiment_ / "meta.yaml"; !fs::exists(meta)) {
    write_file_atomically(meta, format("artifact_location: {}\n"
                                       "creation_time: {}\n"
                                       "experiment_id: '0'\n"
                                       "last_update_time: {}\n"
                                       "lifecycle_stage: active\n"
                                       "name: Default\n",
                                       quoted(file_uri(experiment_)), now_ms(), now_ms()));
  }
  rewind_all(folder_ / "metrics", step);
  for (const auto& [key, value] : settings) write_file(folder_ / "params" / key, value);
  write_file(folder_ / "tags" / "run_folder", fs::absolute(run.path()));
}

void MlflowRun::write(const Event& event) {
  if (is_broken_) return;
  try {
    record(event);
  } catch (const Error& error) {
    log::warn(format("{}; MLflow hears no more of this run, which goes on", error.what()));
    is_broken_ = true;
  }
}

void MlflowRun::record(const Event& event) {
  if (const auto* start = std::get_if<StartEvent>(&event)) {
    write_tags(*start);
    write_meta(Status::running);
  }
  const Scalars scalars = scalars_of(event);
  step_ = scalars.step.value_or(step_);
  for (const auto& [metric, value] : scalars.values) append(metric, value);
  if (const auto* end = std::get_if<EndEvent>(&event)) {
    write_meta(end->exit_code == 0              ? Status::finished
               : end->exit_code == kExitStopped ? Status::killed
                                                : Status::failed);
  }
}

void MlflowRun::write_tags(const StartEvent& event) const {
  const fs::path tags = folder_ / "tags";
  write_file(tags / "mlflow.runName", name_);
  write_file(tags / "mlflow.user", user());
  write_file(tags / "mlflow.source.name", event.command);
  write_file(tags / "mlflow.source.type", "LOCAL");
  write_file(tags / "version", event.version);
}

void MlflowRun::write_meta(Status status) const {
  write_file_atomically(
      folder_ / "meta.yaml",
      format("artifact_uri: {}\n"
             "end_time: {}\n"
             "entry_point_name: ''\n"
             "experiment_id: '0'\n"
             "lifecycle_stage: active\n"
             "run_id: '{}'\n"
             "run_name: {}\n"
             "run_uuid: '{}'\n"
             "source_name: ''\n"
             "source_type: 4\n"
             "source_version: ''\n"
             "start_time: {}\n"
             "status: {}\n"
             "tags: []\n"
             "user_id: {}\n",
             quoted(file_uri(folder_ / "artifacts")), status == Status::running ? "null" : std::to_string(now_ms()),
             id_, quoted(name_), id_, started_ms_, static_cast<int>(status), quoted(user())));
}

void MlflowRun::append(const std::string& metric, double value) {
  auto file = metrics_.find(metric);
  if (file == metrics_.end()) {
    const fs::path path = folder_ / "metrics" / metric;
    create_folders_durably(path.parent_path());
    file = metrics_.try_emplace(metric, path).first;
  }
  file->second.append(format("{} {} {}\n", now_ms(), value, step_));
}

}  // namespace dcs3gd::app
