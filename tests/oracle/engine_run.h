#pragma once

#include <cstdint>
#include <string>

#include "app/config/configuration.h"
#include "core/optim/momentum_sgd.h"
#include "core/parameter_arena.h"
#include "nn/graph/graph.h"
#include "tests/oracle/recording.h"

namespace dcs3gd::oracle {

/// A model's parameters and running statistics.
struct ModelState {
  explicit ModelState(const nn::Graph& graph);

  ParameterArena weights;
  ParameterArena statistics;
};

/// The graph that a recording of `model` is about.
nn::Graph graph_of(const std::string& model, const Recording& settings);
/// The state that training starts from.
ModelState first_state(const nn::Graph& graph, const Recording& settings);

/// By which rules the engine trains: those of the recording, or wrong ones to see that the oracle notices.
struct TrainingRules {
  explicit TrainingRules(const Recording& settings);

  std::string algorithm = "ssgd";  ///< one worker: all train alike
  optim::MomentumSgdOptions sgd;
  float label_smoothing = 0;
  std::int64_t first_step = 0;  ///< of the learning rate's schedule
};

/// What the engine makes of a recording's settings.
struct EngineRun {
  Recording results;        ///< the lines that a recording has
  ParameterArena gradient;  ///< of the first step
  ModelState trained;
};

/// One gradient by the network alone, then a training run by the trainer's own update algorithm, then an evaluation.
EngineRun run_engine(const nn::Graph& graph, const Recording& settings, const TrainingRules& rules,
                     const ModelState& first);

}  // namespace dcs3gd::oracle
