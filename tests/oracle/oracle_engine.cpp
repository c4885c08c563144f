// The engine's side of the live comparison; oracle.py is the other and calls this program.
//   oracle_engine write RECORDING FILE        the state that training starts from, as safetensors
//   oracle_engine compare RECORDING FOLDER    trains from FOLDER/first.safetensors and compares with the recording, and
//                                             element by element with gradient.safetensors and trained.safetensors
// RECORDING is called after its model.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "app/model/safetensors.h"
#include "core/error.h"
#include "tests/oracle/comparison.h"
#include "tests/oracle/engine_run.h"

using namespace dcs3gd;
using namespace dcs3gd::oracle;

namespace {

void append(std::vector<Deviation>& deviations, const std::vector<Deviation>& more) {
  deviations.insert(deviations.end(), more.begin(), more.end());
}

std::vector<Deviation> compare_with_folder(const nn::Graph& graph, const Recording& recording,
                                           const std::string& folder) {
  ModelState first(graph);
  app::load_safetensors(folder + "/first.safetensors", {&first.weights, &first.statistics});
  ParameterArena gradient(graph.parameter_layout());
  app::load_safetensors(folder + "/gradient.safetensors", {&gradient});
  ModelState trained(graph);
  app::load_safetensors(folder + "/trained.safetensors", {&trained.weights, &trained.statistics});

  const EngineRun run = run_engine(graph, recording, TrainingRules(recording), first);
  std::vector<Deviation> deviations = compare(recording, run.results);
  const ParameterArena no_gradient(graph.parameter_layout());
  const ParameterArena no_statistics(graph.statistics_layout());
  append(deviations, compare_elements(recording, "gradient", no_gradient, gradient, run.gradient));
  append(deviations, compare_elements(recording, "change", first.weights, trained.weights, run.trained.weights));
  append(deviations,
         compare_elements(recording, "statistics", no_statistics, trained.statistics, run.trained.statistics));
  return deviations;
}

/// Prints the worst of each kind and all that are wrong. Returns whether all are right.
bool report(const std::string& model, const std::vector<Deviation>& deviations) {
  const auto print = [&](const Deviation& deviation) {
    std::printf("%s: %-60s distance/size %.1e, distance/allowed %.2g%s\n", model.c_str(), deviation.name.c_str(),
                deviation.distance / deviation.scale, deviation.distance / deviation.allowed,
                deviation.is_right() ? "" : "  WRONG");
  };
  for (const char* kind : {"losses", "logits", "evaluation", "gradient", "change", "statistics"}) {
    const Deviation deviation = worst(deviations, kind);
    if (deviation.is_right() && !deviation.name.empty()) print(deviation);
  }
  bool right = true;
  for (const Deviation& deviation : deviations) {
    if (deviation.is_right()) continue;
    print(deviation);
    right = false;
  }
  return right;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 4) return static_cast<int>(ErrorKind::input);
  const std::string command = arguments[1];
  const std::string path = arguments[2];
  const std::string target = arguments[3];
  try {
    const std::string model = std::filesystem::path(path).stem();
    const Recording recording(path);
    const nn::Graph graph = graph_of(model, recording);
    if (command == "write") {
      const ModelState first = first_state(graph, recording);
      app::save_safetensors(target, {&first.weights, &first.statistics});
      return 0;
    }
    return report(model, compare_with_folder(graph, recording, target)) ? 0 : 1;
  } catch (const Error& error) {
    std::fprintf(stderr, "oracle_engine: %s\n", error.what());
    return error.exit_code();
  }
}
