#include "app/metrics.h"

#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

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
  return {{"event", "checkpoint"},
          {"step", event.step},
          {"epoch", event.epoch},
          {"path", event.path},
          {"wall_s", event.wall_s}};
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

MetricsWriter::MetricsWriter(std::string path)
    : path_(std::move(path)), descriptor_(path_, O_WRONLY | O_CREAT | O_APPEND) {
  if (!descriptor_.is_open()) {
    throw Error(ErrorKind::failure, format("cannot open {}: {}", path_, system_reason()));
  }
}

void MetricsWriter::write(const Event& event) {
  const std::string line = to_json_line(event) + "\n";
  const off_t end = ::lseek(descriptor_.get(), 0, SEEK_END);
  if (write_fully(descriptor_.get(), std::as_bytes(std::span(line)))) return;
  const std::string reason = system_reason();
  // A disk may fill up in the middle of a line: take its beginning back.
  const bool taken_back = ::ftruncate(descriptor_.get(), end) == 0;
  if (!std::exchange(warned_, true)) {
    log::warn(format("cannot write {}: {}; lines are lost{}, the run goes on", path_, reason,
                     taken_back ? "" : " or cut off"));
  }
}

void write_summary(const std::string& path, const EndEvent& event) {
  write_file_atomically(path, to_json_line(event) + "\n");
}

}  // namespace dcs3gd::app
