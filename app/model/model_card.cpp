#include "app/model/model_card.h"

#include <filesystem>
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

/// What evaluation scales a photo's shorter side to before it takes the middle: for other programs, ours know it.
int shorter_side_of(int image_size) {
  const data::ImageSize large{1 << 15, 1 << 15};
  return data::CropRule::center(image_size).crop(large).scaled.width;
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
                                       {"photo_resize", shorter_side_of(card.settings.image_size)},
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
    return ModelCard{.name = json.at("name"),
                     .network = json.at("network"),
                     .settings = {.classes = json.at("classes"),
                                  .channels = json.at("channels"),
                                  .image_size = json.at("image_size"),
                                  .dropout = json.at("dropout"),
                                  .zero_init_residual = json.at("zero_init_residual")},
                     .normalize = {.mean = json.at("mean"), .std = json.at("std")},
                     .class_names = json.at("class_names")};
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::input,
                format("{}: the description of its model ({}) is damaged: {}; write the file again, or "
                       "take the entry out to use the configuration's model",
                       path, kCardKey, error.what()));
  }
}

std::string weights_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return path;
  const std::string best = path + "/best.safetensors";
  const std::string last = path + "/model.safetensors";
  return std::filesystem::exists(best, ignored) && !std::filesystem::exists(last, ignored) ? best : last;
}

std::optional<ModelCard> read_model_card(const std::string& path) {
  return card_from(SafetensorsFile(path).metadata(), path);
}

}  // namespace dcs3gd::app
