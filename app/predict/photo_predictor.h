#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "app/model/model.h"
#include "app/model/model_card.h"
#include "comm/communicator.h"
#include "data/photos/photo_source.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// How photos are predicted. Affects speed and, by rounding, the last digits only.
struct PredictOptions {
  int batch = 32;  ///< photos at a time, at most
  nn::Precision precision = nn::Precision::fp32;
  std::optional<int> threads = {};  ///< as run.threads
};

/// Called with the name of each photo and its logits, in the order of the source.
using PhotoPredicted = std::function<void(const std::string& name, std::span<const float> logits)>;

/// Shows photos to the model in `file`, cropped and normalised as it was evaluated in training. Photos that cannot be
/// read are warned of and left out; returns how many. Throws Error{input} for a file that is no model of this program.
std::int64_t predict_photos(const std::string& file, const ModelCard& card,
                            std::unique_ptr<const data::PhotoSource> photos, const PredictOptions& options,
                            comm::Communicator& communicator, const PhotoPredicted& predicted);

}  // namespace dcs3gd::app
