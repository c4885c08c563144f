#pragma once

#include <string>
#include <string_view>

#include "app/config/configuration.h"
#include "app/model/model_card.h"
#include "nn/graph/graph.h"

namespace dcs3gd::app {

/// The network of a card as a configuration trains it: what is frozen (model.freeze, optimizer.groups), and how the
/// rates and decays of the rest differ. A parameter follows the last group that matches it; model.freeze holds over
/// all groups. Throws Error{input} for a network that does not fit its images, a pattern that matches nothing, and if
/// nothing is left to train.
nn::Graph training_graph(const ModelCard& card, const Configuration& configuration);

/// Whether a pattern of the shell (*, ?, [ab]) matches the parameter or a module that holds it: "fc" matches
/// "fc.weight", "layer4" and "layer[34].*" match "layer4.0.conv1.weight". A * matches dots too.
bool is_matched(std::string_view parameter, const std::string& pattern);

/// The module of the last layer with parameters, whose outputs are the classes.
std::string classifier_of(const nn::Graph& graph);

}  // namespace dcs3gd::app
