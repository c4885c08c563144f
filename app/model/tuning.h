#pragma once

#include <string>

#include "app/config/configuration.h"
#include "comm/communicator.h"
#include "nn/graph/graph.h"
#include "nn/plan/convolution_choices.h"

namespace dcs3gd::app {

/// The file of a run with its choices, which shows any change of it.
std::string text_for_run(const nn::ConvolutionChoices& choices);

/// Collective: what rank 0 has chosen, on all ranks.
nn::ConvolutionChoices choices_of_rank_0(comm::Communicator& communicator, const nn::ConvolutionChoices& mine);

/// Collective: the algorithms of a network's convolutions, the same on all ranks. With model.convolution: auto rank 0
/// times what is not in its file of earlier choices, and keeps it there: a file for each kind of machine in
/// $XDG_CACHE_HOME/dcs3gd-train, by default ~/.cache/dcs3gd-train. Threads must have been set. With direct: no choice.
/// `file_of_run` comes first if it is there: what a run that continues began with. If it is damaged, a warning
/// says so and the others hold.
nn::ConvolutionChoices tune_convolutions(const nn::Graph& graph, const Configuration& configuration,
                                         comm::Communicator& communicator, const std::string& file_of_run = "");

}  // namespace dcs3gd::app
