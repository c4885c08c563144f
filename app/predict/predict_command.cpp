#include "app/predict/predict_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "app/job/exit_code.h"
#include "app/job/process_memory.h"
#include "app/model/class_probabilities.h"
#include "app/model/model_card.h"
#include "app/model/safetensors.h"
#include "app/predict/onnx_model.h"
#include "app/predict/photo_predictor.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/log.h"
#include "core/printable.h"
#include "core/stopwatch.h"
#include "core/version.h"
#include "data/photos/photo_list.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kWidestName = 60;

enum class OutputFormat { table, csv, json };

struct Request {
  std::string model;
  std::vector<std::string> images;
  OutputFormat format = OutputFormat::table;
  int top = 3;
  PredictOptions predict;
  std::string onnx_file;
  bool fold_batch_norm = false;
};

/// Writes predictions to standard output as they come.
class PredictionPrinter {
 public:
  PredictionPrinter(const Request& request, const ModelCard& card, const data::PhotoSource& photos)
      : format_(request.format),
        places_(std::min(static_cast<std::size_t>(request.top), static_cast<std::size_t>(card.settings.classes))),
        names_(card.class_names) {
    for (std::uint32_t i = 0; i < photos.size(); ++i) {
      name_width_ = std::max(name_width_, std::min(photos.name(i).size(), kWidestName));
    }
    if (format_ == OutputFormat::json) put("[");
    if (format_ == OutputFormat::csv) put("file" + csv_guess_header(places_) + "\n");
  }

  void print(const std::string& file, std::span<const float> logits) {
    const std::vector<ClassProbability> guesses = most_probable(logits, places_);
    switch (format_) {
      case OutputFormat::table:
        put(row(file, guesses));
        break;
      case OutputFormat::csv:
        put(csv_field(file) + csv_guesses(guesses, names_) + "\n");
        break;
      case OutputFormat::json:
        put((count_ == 0 ? "\n" : ",\n") + json_object(file, guesses));
        break;
    }
    ++count_;
  }

  void finish() {
    if (format_ == OutputFormat::json) put("\n]\n");
    flush_output();
  }

  std::int64_t count() const { return count_; }

 private:
  static void put(const std::string& text) { std::fputs(text.c_str(), stdout); }

  /// Of a class; its number where it has no name.
  std::string title(std::size_t label) const {
    const std::string name = class_name(names_, label);
    return name.empty() ? std::to_string(label) : printable(name);
  }

  std::string row(const std::string& file, const std::vector<ClassProbability>& guesses) const {
    std::string line = format("{:<{}}", printable(file), name_width_);
    for (const ClassProbability& guess : guesses) {
      line += format("  {} {:.1f} %", title(guess.label), 100 * guess.probability);
    }
    return line + "\n";
  }

  std::string json_object(const std::string& file, const std::vector<ClassProbability>& guesses) const {
    nlohmann::ordered_json object = {{"file", file}, {"predictions", nlohmann::ordered_json::array()}};
    for (const ClassProbability& guess : guesses) {
      object["predictions"].push_back(
          {{"class", guess.label}, {"name", class_name(names_, guess.label)}, {"probability", guess.probability}});
    }
    return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }

  const OutputFormat format_;
  const std::size_t places_;
  const std::vector<std::string>& names_;
  std::size_t name_width_ = 0;
  std::int64_t count_ = 0;
};

ModelCard card_of(const std::string& file) {
  std::optional<ModelCard> card = read_model_card(file);
  if (card) return *card;
  throw Error(ErrorKind::input,
              format("{}: says nothing of its network and classes, as files of other programs do; "
                     "with such weights use dcs3gd-train --config FILE --eval {} --predictions FILE.csv",
                     file, file));
}

void predict(const Request& request, const std::string& file, const ModelCard& card,
             std::unique_ptr<const data::PhotoSource> photos, comm::Communicator& communicator) {
  const std::uint32_t photo_count = photos->size();
  PredictionPrinter printer(request, card, *photos);
  const Stopwatch watch;
  const std::int64_t bad =
      predict_photos(file, card, std::move(photos), request.predict, communicator,
                     [&](const std::string& name, std::span<const float> logits) { printer.print(name, logits); });
  printer.finish();
  if (bad > 0) {
    throw Error(ErrorKind::failure, format("{} of {} photos cannot be read; they are named above", bad, photo_count));
  }
  if (request.format == OutputFormat::table) {
    const double seconds = watch.elapsed_ms() / 1e3;
    std::fprintf(stderr, "%lld photos in %.1f s, %.1f img/s\n", static_cast<long long>(printer.count()), seconds,
                 static_cast<double>(printer.count()) / seconds);
  }
}

void export_onnx(const Request& request, const std::string& file, const ModelCard& card) {
  std::error_code ignored;
  if (std::filesystem::equivalent(file, request.onnx_file, ignored) || request.onnx_file.ends_with(".safetensors")) {
    throw Error(ErrorKind::input, format("--export {}: is for weights; name a FILE.onnx", request.onnx_file));
  }
  OutputFile output(request.onnx_file);
  const nn::Graph graph = build_graph(card);
  ParameterArena weights(graph.parameter_layout());
  ParameterArena statistics(graph.statistics_layout());
  load_safetensors(file, {&weights, &statistics});
  output.write(onnx_model(card, graph, weights, statistics, request.fold_batch_norm));
  output.commit();
}

}  // namespace

int run_predict_command(int argc, const char* const* argv) {
  CLI::App parser("Tells what a trained model sees on photos; writes it for other programs.", "dcs3gd-predict");
  Request request;
  parser.set_version_flag("--version,-v", format("dcs3gd-predict {}", kVersion), "print the version and exit");
  parser.add_option("model", request.model, "a .safetensors file of a run, its folder, or one of its checkpoints")
      ->required();
  CLI::Option* images = parser.add_option(
      "images", request.images, "photos, folders or NAME.tar files of photos, or - for one from standard input");
  const std::map<std::string, OutputFormat> formats{
      {"table", OutputFormat::table}, {"csv", OutputFormat::csv}, {"json", OutputFormat::json}};
  parser.add_option("--format", request.format, "how predictions are written (default: table)")
      ->transform(CLI::CheckedTransformer(formats))
      ->option_text("table|csv|json");
  parser.add_option("--top", request.top, "classes to show of each photo")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  parser.add_option("--batch", request.predict.batch, "photos at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  parser.add_option("--threads", request.predict.threads, "OpenMP threads (default: all cores)")
      ->check(CLI::Range(1, 4096));
  const std::map<std::string, nn::Precision> precisions{{"fp32", nn::Precision::fp32}, {"bf16", nn::Precision::bf16}};
  parser.add_option("--precision", request.predict.precision, "what is computed in (default: fp32)")
      ->transform(CLI::CheckedTransformer(precisions))
      ->option_text("fp32|bf16");
  CLI::Option* onnx = parser.add_option("--export", request.onnx_file, "write the model in ONNX format to this file")
                          ->type_name("FILE.onnx");
  parser
      .add_flag("--fold-batch-norm", request.fold_batch_norm, "with --export: batch norm becomes part of convolutions")
      ->needs(onnx);
  try {
    parser.parse(argc, argv);
    if (images->empty() && onnx->empty()) throw CLI::RequiredError("images or --export FILE.onnx");
  } catch (const CLI::Success& asked) {
    return parser.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::input, format("dcs3gd-predict: {}; see dcs3gd-predict --help", error.what()));
  }

  expect_room_for_libraries();
  const std::string file = weights_file(request.model);
  const ModelCard card = card_of(file);
  std::unique_ptr<const data::PhotoSource> photos;
  if (!request.images.empty()) photos = data::list_photos(request.images);
  if (!onnx->empty()) export_onnx(request, file, card);
  if (photos) {
    comm::run_ranks_as_threads(
        1, {}, [&](comm::Communicator& solo) { predict(request, file, card, std::move(photos), solo); });
  }
  return 0;
}

}  // namespace dcs3gd::app
