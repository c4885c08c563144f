#include "app/record/metrics.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

using Json = nlohmann::ordered_json;  // keeps the order of keys; writes NaN and Inf as null

constexpr std::uint64_t kReadBytes = 1 << 16;

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
  Json json = {{"event", "end"},
               {"status", event.status},
               {"exit_code", event.exit_code},
               {"best_top1", or_null(event.best_top1)},
               {"final_top1", or_null(event.final_top1)},
               {"wall_s", event.wall_s},
               {"images_per_s", event.images_per_s},
               {"wall_images_per_s", event.wall_images_per_s}};
  if (!event.why.empty()) json["why"] = event.why;
  return json;
}

Json parsed(std::string_view line) { return Json::parse(line, nullptr, false); }

/// Whether a line, with its end, stays when a run continues from `step`.
bool is_kept(std::string_view line, std::int64_t step) {
  const Json json = parsed(line);
  if (!line.ends_with('\n') || !json.is_object()) return false;
  const auto own = json.find("step");
  return own == json.end() || (own->is_number_integer() && own->get<std::int64_t>() <= step);
}

/// A member that is a string; empty where it is not.
std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Whether all lines before this one stay, too. Those of steps and evaluations are in order.
bool is_anchor(std::string_view line, std::int64_t step) {
  if (!is_kept(line, step)) return false;
  const Json json = parsed(line);
  const std::string event = text_of(json, "event");
  return event == "step" || event == "eval";
}

std::string read_from(const PositionedFile& file, std::uint64_t begin, std::uint64_t end) {
  std::string text(end - begin, '\0');
  file.read(begin, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Where the last anchor begins; 0 if there is none.
std::uint64_t last_anchor(const PositionedFile& file, std::int64_t step) {
  for (std::uint64_t bytes = kReadBytes;; bytes *= 4) {
    const std::uint64_t begin = file.size() - std::min(bytes, file.size());
    const std::string text = read_from(file, begin, file.size());
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::size_t line_end = rest.size() > 1 ? rest.rfind('\n', rest.size() - 2) : std::string_view::npos;
      if (line_end == std::string_view::npos && begin > 0) break;  // the line may begin before the text
      const std::size_t first = line_end == std::string_view::npos ? 0 : line_end + 1;
      if (is_anchor(rest.substr(first), step)) return begin + first;
      rest = rest.substr(0, first);
    }
    if (begin == 0) return 0;
  }
}

}  // namespace

std::string to_json_line(const Event& event) {
  const Json json = std::visit([](const auto& e) { return to_json(e); }, event);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // a command line may not be UTF-8
}

MetricsWriter::MetricsWriter(std::string path) : file_(std::move(path)) {}

void MetricsWriter::write(const Event& event) { file_.append(to_json_line(event) + "\n"); }

void rewind_metrics(const std::string& path, std::int64_t step) {
  if (!std::filesystem::exists(path)) return;
  const PositionedFile file = open_file(path);
  const std::uint64_t anchor = last_anchor(file, step);
  const std::string text = read_from(file, anchor, file.size());
  std::string kept;
  for (std::size_t at = 0, end = 0; at < text.size(); at = end) {
    end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (is_kept(line, step)) kept += line;
  }
  if (kept.size() == text.size()) return;
  AtomicFile anew(path);
  for (std::uint64_t at = 0; at < anchor; at += kReadBytes) {
    anew.write(read_from(file, at, std::min(at + kReadBytes, anchor)));
  }
  anew.write(kept);
  anew.commit();
}

void write_summary(const std::string& path, const EndEvent& event) {
  write_file_atomically(path, to_json_line(event) + "\n");
}

std::string read_status(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return text_of(Json::parse(file, nullptr, false), "status");
}

}  // namespace dcs3gd::app
