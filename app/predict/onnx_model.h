#pragma once

#include <string>

#include "app/model/model_card.h"
#include "core/parameter_arena.h"
#include "nn/graph/graph.h"

namespace dcs3gd::app {

/// A trained model in the ONNX format (operator set 13), as other programs read it: input `images`, N × C × H × W,
/// normalised as the card says; output `logits`, N × classes, before softmax. Layers keep their names, parameters
/// theirs. The file's metadata hold what the card knows: `class_names` (a JSON list), `mean`, `std`,
/// `photo_resize`, `network`.
///
/// `fold_batch_norm`: batch norms that follow a convolution alone become part of its weights and bias. Dropout is left
/// out. Throws Error{input} for a model above 1 GB, which may not fit into one file of the format.
std::string onnx_model(const ModelCard& card, const nn::Graph& graph, const ParameterArena& weights,
                       const ParameterArena& statistics, bool fold_batch_norm);

}  // namespace dcs3gd::app
