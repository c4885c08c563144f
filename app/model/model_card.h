#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/config/network_reader.h"
#include "comm/communicator.h"
#include "data/options.h"
#include "nn/graph/graph.h"

namespace dcs3gd::app {

/// All that a program needs to know to use a model's weights. It is written beside them, into the metadata of their
/// safetensors file, and read from there: no configuration is needed to build the model again.
struct ModelCard {
  std::string name;          ///< of the network or its file, for people
  std::string network;       ///< its description (app/config/network_reader.h)
  NetworkSettings settings;  ///< classes and images
  int photo_resize = 0;  ///< pixels that a photo's shorter side is scaled to before its middle, image_size², is taken
  data::NormalizeOptions normalize;      ///< of pixels 0 to 1, one entry per channel
  std::vector<std::string> class_names;  ///< by label; none where classes have numbers only

  bool operator==(const ModelCard&) const = default;
};

/// The card of the model that a configuration trains; the names of its classes come with the data. Throws Error{input}
/// if its network cannot be read.
ModelCard model_card(const Configuration& configuration);
/// Collective: what `make` gives on rank 0, on all ranks; only rank 0 needs the files that it reads. Throws what it
/// throws, on all ranks.
ModelCard card_of_rank_0(comm::Communicator& communicator, const std::function<ModelCard()>& make);
/// Throws Error{input} for a network that does not fit its images.
nn::Graph build_graph(const ModelCard& card);

/// The data of a configuration as the model wants its images.
data::DataOptions data_for(const ModelCard& card, data::DataOptions options);

/// As safetensors' metadata, strings by name.
std::map<std::string, std::string> to_metadata(const ModelCard& card);
/// The card in a file's metadata; none in a file that another program made. Throws Error{input} naming `path` for one
/// that is damaged.
std::optional<ModelCard> card_from(const std::map<std::string, std::string>& metadata, const std::string& path);
/// The file of weights at `path`: itself, or that of a checkpoint or run, whose best ones count before the last. Throws
/// Error{input} for a folder without.
std::string weights_file(const std::string& path);
/// The card of a file of weights; none if it has none. Throws Error{input} for what is no safetensors file.
std::optional<ModelCard> read_model_card(const std::string& path);

}  // namespace dcs3gd::app
