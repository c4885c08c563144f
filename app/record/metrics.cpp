#include "app/record/metrics.h"

#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

using Json = nlohmann::ordered_json;  // keeps the order of keys; writes NaN and Inf as null

template <typename Number>
Json or_null(const std::optional<Number>& number) {
  return number ? Json(*number) : Json(nullptr);
}

Json to_json(const StartEvent& event) {
  return {{"event", "start"},
          {"version", event.version},
          {"command", event.command},
          {"config_hash", event.config_hash},
          {"hosts", event.hosts},
          {"ranks", event.ranks},
          {"workers", event.workers},
          {"threads", event.threads},
          {"isa", event.isa},
          {"parameters", event.parameters},
          {"fresh_share", event.fresh_share},
          {"all_reduce_bytes", event.all_reduce_bytes},
          {"resumed_from", or_null(event.resumed_from)}};
}

Json to_json(const StepEvent& event) {
  return {{"event", "step"},
          {"step", event.step},
          {"epoch", event.epoch},
          {"loss", event.loss},
          {"lr", event.lr},
          {"grad_norm", event.grad_norm},
          {"lambda", event.lambda},
          {"distance_norm", event.distance_norm},
          {"staleness_price", event.staleness_price},
          {"staleness_sharpness", event.staleness_sharpness},
          {"images_per_s", event.images_per_s},
          {"step_ms", event.step_ms},
          {"compute_ms", event.compute_ms},
          {"all_reduce_ms", event.all_reduce_ms},
          {"wait_ms", event.wait_ms},
          {"overlap", event.overlap},
          {"data_wait_ms", event.data_wait_ms},
          {"bad_images", event.bad_images}};
}

Json to_json(const EvalEvent& event) {
  return {{"event", "eval"},    {"step", event.step}, {"epoch", event.epoch},  {"top1", event.top1},
          {"top5", event.top5}, {"loss", event.loss}, {"images", event.images}};
}

Json to_json(const CheckpointEvent& event) {
  return {{"event", "checkpoint"}, {"step", event.step},     {"epoch", event.epoch},
          {"path", event.path},    {"wall_s", event.wall_s}, {"stall_s", event.stall_s}};
}

Json to_json(const EndEvent& event) {
  return {{"event", "end"},
          {"status", event.status},
          {"exit_code", event.exit_code},
          {"best_top1", or_null(event.best_top1)},
          {"final_top1", or_null(event.final_top1)},
          {"wall_s", event.wall_s},
          {"images_per_s", event.images_per_s}};
}

}  // namespace

std::string to_json_line(const Event& event) {
  const Json json = std::visit([](const auto& e) { return to_json(e); }, event);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // a command line may not be UTF-8
}

MetricsWriter::MetricsWriter(std::string path) : file_(std::move(path)) {}

void MetricsWriter::write(const Event& event) { file_.append(to_json_line(event) + "\n"); }

void rewind_metrics(const std::string& path, std::int64_t step) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return;
  std::string kept;
  bool dropped = false;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, false);
    const bool is_whole = json.is_object() && !file.eof();  // eof: the newline is missing
    if (is_whole && json.value("step", std::int64_t{0}) <= step) {
      kept += line + "\n";
    } else {
      dropped = true;
    }
  }
  if (file.bad()) throw Error(ErrorKind::failure, format("cannot read {}", path));
  if (dropped) write_file_atomically(path, kept);
}

void write_summary(const std::string& path, const EndEvent& event) {
  write_file_atomically(path, to_json_line(event) + "\n");
}

std::string read_status(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const Json json = Json::parse(file, nullptr, false);
  return json.is_object() ? json.value("status", "") : "";
}

}  // namespace dcs3gd::app
