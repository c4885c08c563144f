#include "app/checkpoint/checkpoint_manifest.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>
#include <utility>

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

/// A whole number beyond any type is a floating one to the reader, and no conversion of it is defined.
template <typename Number>
Number number(const Json& json) {
  if (std::is_integral_v<Number> && !json.is_number_integer()) throw std::out_of_range("no whole number");
  return json.get<Number>();
}

template <typename Number>
std::optional<Number> optional_number(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional(number<Number>(json));
}

Json to_json(const FileDigest& digest) { return {{"bytes", digest.bytes}, {"xxh3", hash_text(digest.hash)}}; }

FileDigest to_digest(const Json& json) {
  return {number<std::uint64_t>(json.at("bytes")), std::stoull(json.at("xxh3").get<std::string>(), nullptr, 16)};
}

/// No number that a run cannot have, whoever wrote it.
void expect_possible(const CheckpointManifest& manifest) {
  constexpr std::int64_t kMost = std::int64_t{1} << 53;  // what JSON's readers keep exactly
  const auto expect = [](const char* key, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value >= least && value <= most) return;
    throw Error(ErrorKind::input, format("manifest.json: {} is {}, expected {} to {}", key, value, least, most));
  };
  constexpr std::int64_t kMostRanks = 1 << 20;
  const auto& [step, epoch, images] = manifest.position;
  expect("step", step, 0, kMost);
  expect("epochs_done", epoch, 0, std::min(step, kMost));
  expect("images_used_in_epoch", images, 0, kMost);
  expect("ranks", manifest.ranks, 1, kMostRanks);
  expect("workers_per_rank", manifest.workers_per_rank, 1, kMostRanks / manifest.ranks);
  expect("threads", manifest.threads, 1, kMostRanks);
  expect("evaluated_at_step", manifest.evaluated_at_step.value_or(0), 0, step);
  for (const auto& [key, top1] : {std::pair("best_top1", manifest.best_top1), {"final_top1", manifest.final_top1}}) {
    if (top1.value_or(0) < 0 || top1.value_or(0) > 1) {
      throw Error(ErrorKind::input, format("manifest.json: {} is {}, expected 0 to 1", key, *top1));
    }
  }
}

std::string dump(const Json& json) { return json.dump(kIndent, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string to_text(const CheckpointManifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, digest] : manifest.files) files[name] = to_json(digest);
  Json json = {{"format", manifest.format},
               {"version", manifest.version},
               {"step", manifest.position.step},
               {"epochs_done", manifest.position.epoch},
               {"images_used_in_epoch", manifest.position.images},
               {"ranks", manifest.ranks},
               {"workers_per_rank", manifest.workers_per_rank},
               {"workers",
                std::int64_t{manifest.ranks} * manifest.workers_per_rank},  // of any numbers: they are not checked yet
               {"threads", manifest.threads},
               {"isa", manifest.isa},
               {"data", manifest.data_fingerprint},
               {"configuration", manifest.configuration},
               {"evaluated_at_step", or_null(manifest.evaluated_at_step)},
               {"best_top1", or_null(manifest.best_top1)},
               {"final_top1", or_null(manifest.final_top1)},
               {"files", files}};
  if (manifest.format > 1) json["rule"] = manifest.rule;
  if (manifest.format > 2) json["best_file"] = manifest.best_file ? to_json(*manifest.best_file) : Json(nullptr);
  json["xxh3"] = hash_text(dump(json));
  return dump(json) + "\n";
}

CheckpointManifest parse_manifest(const std::string& text) {
  const Error damaged(ErrorKind::input, "manifest.json is damaged: it is not what was written");
  try {
    const Json json = Json::parse(text);
    const int format_number = number<int>(json.at("format"));
    if (format_number < 1 || format_number > CheckpointManifest::kFormat) {
      throw Error(ErrorKind::input,
                  format("manifest.json has format {}, this version reads up to {}; continue with the "
                         "version that wrote it",
                         format_number, CheckpointManifest::kFormat));
    }
    CheckpointManifest manifest{.format = format_number,
                                .version = json.at("version").get<std::string>(),
                                .position = {.step = number<std::int64_t>(json.at("step")),
                                             .epoch = number<std::int64_t>(json.at("epochs_done")),
                                             .images = number<std::int64_t>(json.at("images_used_in_epoch"))},
                                .ranks = number<int>(json.at("ranks")),
                                .workers_per_rank = number<int>(json.at("workers_per_rank")),
                                .threads = number<int>(json.at("threads")),
                                .isa = json.at("isa").get<std::string>(),
                                .data_fingerprint = json.at("data").get<std::string>(),
                                .configuration = json.at("configuration").get<std::vector<std::string>>(),
                                .evaluated_at_step = optional_number<std::int64_t>(json.at("evaluated_at_step")),
                                .best_top1 = optional_number<double>(json.at("best_top1")),
                                .final_top1 = optional_number<double>(json.at("final_top1"))};
    for (const auto& [name, entry] : json.at("files").items()) {
      manifest.files[name] = to_digest(entry);
    }
    if (format_number > 1) manifest.rule = json.at("rule").get<std::map<std::string, double>>();
    if (format_number > 2 && !json.at("best_file").is_null()) manifest.best_file = to_digest(json.at("best_file"));
    // Writing it again shows every change, in the checksum or anywhere else.
    if (to_text(manifest) != text) throw damaged;
    expect_possible(manifest);
    return manifest;
  } catch (const Json::exception&) {
    throw damaged;
  } catch (const std::logic_error&) {  // of std::stoull
    throw damaged;
  }
}

}  // namespace dcs3gd::app
