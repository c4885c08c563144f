#include "app/model/model_card.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

#include "app/job/agreement.h"
#include "app/model/safetensors.h"
#include "core/error.h"
#include "core/format.h"
#include "data/formats.h"
#include "data/transform/crop.h"

namespace dcs3gd::app {
namespace {

constexpr const char* kCardKey = "dcs3gd.card";  // of the metadata: JSON

NetworkDescription description_of(const ModelConfiguration& model) {
  return model.file ? read_network_file(*model.file) : named_network(model.name);
}

/// Images that are stored at their size are evaluated as they are.
int photo_resize_of(const data::DataOptions& data) {
  const bool are_photos = data::format_of(data).files == data::FormatInfo::Files::listed;
  return are_photos ? data::CropRule::shorter_side(data.image_size) : data.image_size;
}

/// What no model can have had.
void expect_possible(const ModelCard& card) {
  const auto channels = static_cast<std::size_t>(card.settings.channels);
  if (card.normalize.mean.size() != channels || card.normalize.std.size() != channels) {
    throw Error(ErrorKind::input, format("{} means and {} deviations for {} channels", card.normalize.mean.size(),
                                         card.normalize.std.size(), channels));
  }
  if (!std::ranges::all_of(card.normalize.std, [](float std) { return std > 0 && std::isfinite(std); })) {
    throw Error(ErrorKind::input, "a deviation of pixels that is not above 0");
  }
  if (!card.class_names.empty() && card.class_names.size() > static_cast<std::size_t>(card.settings.classes)) {
    throw Error(ErrorKind::input,
                format("{} class names for {} classes", card.class_names.size(), card.settings.classes));
  }
  if (card.photo_resize < card.settings.image_size) {
    throw Error(ErrorKind::input,
                format("photos are scaled to {} pixels, images have {}", card.photo_resize, card.settings.image_size));
  }
}

/// A whole number beyond any type is a floating one to the reader, and no conversion of it is defined.
int whole_number(const nlohmann::json& json, const char* key) {
  const nlohmann::json& value = json.at(key);
  if (!value.is_number_integer() || !std::in_range<int>(value.get<std::int64_t>())) {
    throw std::out_of_range(format("{} is {}", key, value.dump()));
  }
  return value.get<int>();
}

}  // namespace

ModelCard model_card(const Configuration& configuration) {
  const data::DataOptions& data = configuration.data;
  if (configuration.model.classes == ModelConfiguration::kClassesOfData) {
    throw Error(ErrorKind::input,
                "model.classes is auto, and the weights do not say how many classes they have; set the "
                "number");
  }
  return {.name = configuration.model.file.value_or(configuration.model.name),
          .network = description_of(configuration.model).text,
          .settings = {.classes = configuration.model.classes,
                       .channels = data.channels,
                       .image_size = data.image_size,
                       .dropout = configuration.model.dropout,
                       .zero_init_residual = configuration.model.zero_init_residual},
          .photo_resize = photo_resize_of(data),
          .normalize = data::normalization_of(data)};
}

ModelCard card_of_rank_0(comm::Communicator& communicator, const std::function<ModelCard()>& make) {
  std::string text;
  agree(communicator, [&] {
    if (communicator.rank() == 0) text = to_metadata(make()).at(kCardKey);
  });
  return *card_from({{kCardKey, communicator.from_rank_0(text)}}, "rank 0");
}

nn::Graph build_graph(const ModelCard& card) {
  return build_network({.file = card.name, .text = card.network}, card.settings);
}

data::DataOptions data_for(const ModelCard& card, data::DataOptions options) {
  options.channels = card.settings.channels;
  options.image_size = card.settings.image_size;
  options.normalize = card.normalize;
  return options;
}

std::map<std::string, std::string> to_metadata(const ModelCard& card) {
  const nlohmann::ordered_json json = {{"name", card.name},
                                       {"network", card.network},
                                       {"classes", card.settings.classes},
                                       {"class_names", card.class_names},
                                       {"channels", card.settings.channels},
                                       {"image_size", card.settings.image_size},
                                       {"photo_resize", card.photo_resize},
                                       {"mean", card.normalize.mean},
                                       {"std", card.normalize.std},
                                       {"dropout", card.settings.dropout},
                                       {"zero_init_residual", card.settings.zero_init_residual}};
  return {{"format", "pt"},
          {"model", card.name},
          {kCardKey, json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)}};
}

std::optional<ModelCard> card_from(const std::map<std::string, std::string>& metadata, const std::string& path) {
  const auto text = metadata.find(kCardKey);
  if (text == metadata.end()) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(text->second);
    const int image_size = whole_number(json, "image_size");
    ModelCard card{.name = json.at("name"),
                   .network = json.at("network"),
                   .settings = {.classes = whole_number(json, "classes"),
                                .channels = whole_number(json, "channels"),
                                .image_size = image_size,
                                .dropout = json.at("dropout"),
                                .zero_init_residual = json.at("zero_init_residual")},
                   // Missing in files of version 0.3.
                   .photo_resize = json.contains("photo_resize") ? whole_number(json, "photo_resize")
                                                                 : data::CropRule::shorter_side(image_size),
                   .normalize = {.mean = json.at("mean"), .std = json.at("std")},
                   .class_names = json.at("class_names")};
    expect_possible(card);
    return card;
  } catch (const std::exception& error) {
    throw Error(ErrorKind::input,
                format("{}: the description of its model ({}) is damaged: {}; write the file again, or "
                       "take the entry out to use the configuration's model",
                       path, kCardKey, error.what()));
  }
}

std::string weights_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return path;
  for (const char* name : {"/best.safetensors", "/model.safetensors"}) {
    if (std::filesystem::exists(path + name, ignored)) return path + name;
  }
  throw Error(ErrorKind::input,
              format("{}: holds neither best.safetensors nor model.safetensors; name a run that has been evaluated, a "
                     "checkpoint or a file of weights",
                     path));
}

std::optional<ModelCard> read_model_card(const std::string& path) {
  return card_from(SafetensorsFile(path).metadata(), path);
}

}  // namespace dcs3gd::app
