#include "app/checkpoint/checkpoint_manifest.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"

namespace dcs3gd::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kIndent = 1;

template <typename Number>
Json or_null(const std::optional<Number>& number) {
  return number ? Json(*number) : Json(nullptr);
}

template <typename Number>
std::optional<Number> optional_number(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<Number>());
}

std::string dump(const Json& json) { return json.dump(kIndent, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string to_text(const CheckpointManifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, digest] : manifest.files) {
    files[name] = {{"bytes", digest.bytes}, {"xxh3", hash_text(digest.hash)}};
  }
  Json json = {{"format", manifest.format},
               {"version", manifest.version},
               {"step", manifest.position.step},
               {"epochs_done", manifest.position.epoch},
               {"images_used_in_epoch", manifest.position.images},
               {"ranks", manifest.ranks},
               {"workers_per_rank", manifest.workers_per_rank},
               {"workers", manifest.workers()},
               {"threads", manifest.threads},
               {"isa", manifest.isa},
               {"data", manifest.data_fingerprint},
               {"configuration", manifest.configuration},
               {"evaluated_at_step", or_null(manifest.evaluated_at_step)},
               {"best_top1", or_null(manifest.best_top1)},
               {"final_top1", or_null(manifest.final_top1)},
               {"files", files}};
  if (manifest.format > 1) json["rule"] = manifest.rule;
  json["xxh3"] = hash_text(dump(json));
  return dump(json) + "\n";
}

CheckpointManifest parse_manifest(const std::string& text) {
  const Error damaged(ErrorKind::input, "manifest.json is damaged: it is not what was written");
  try {
    const Json json = Json::parse(text);
    const int format_number = json.at("format").get<int>();
    if (format_number < 1 || format_number > CheckpointManifest::kFormat) {
      throw Error(ErrorKind::input,
                  format("manifest.json has format {}, this version reads up to {}; continue with the "
                         "version that wrote it",
                         format_number, CheckpointManifest::kFormat));
    }
    CheckpointManifest manifest{.format = format_number,
                                .version = json.at("version").get<std::string>(),
                                .position = {.step = json.at("step").get<std::int64_t>(),
                                             .epoch = json.at("epochs_done").get<std::int64_t>(),
                                             .images = json.at("images_used_in_epoch").get<std::int64_t>()},
                                .ranks = json.at("ranks").get<int>(),
                                .workers_per_rank = json.at("workers_per_rank").get<int>(),
                                .threads = json.at("threads").get<int>(),
                                .isa = json.at("isa").get<std::string>(),
                                .data_fingerprint = json.at("data").get<std::string>(),
                                .configuration = json.at("configuration").get<std::vector<std::string>>(),
                                .evaluated_at_step = optional_number<std::int64_t>(json.at("evaluated_at_step")),
                                .best_top1 = optional_number<double>(json.at("best_top1")),
                                .final_top1 = optional_number<double>(json.at("final_top1"))};
    for (const auto& [name, entry] : json.at("files").items()) {
      const auto hash = entry.at("xxh3").get<std::string>();
      manifest.files[name] = {entry.at("bytes").get<std::uint64_t>(), std::stoull(hash, nullptr, 16)};
    }
    if (format_number > 1) manifest.rule = json.at("rule").get<std::map<std::string, double>>();
    // Writing it again shows every change, in the checksum or anywhere else.
    if (to_text(manifest) != text) throw damaged;
    return manifest;
  } catch (const Json::exception&) {
    throw damaged;
  } catch (const std::logic_error&) {  // of std::stoull
    throw damaged;
  }
}

}  // namespace dcs3gd::app
