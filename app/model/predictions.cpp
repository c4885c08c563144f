#include "app/model/predictions.h"

#include <algorithm>
#include <vector>

#include "app/job/agreement.h"
#include "app/model/class_probabilities.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kPlaces = 5;

std::size_t places_of(const data::Dataset& dataset) {
  return std::min(kPlaces, static_cast<std::size_t>(dataset.classes()));
}

std::string header(const data::Dataset& dataset) {
  return "index,file,label,label_name" + csv_guess_header(places_of(dataset)) + "\n";
}

std::string line_of(const data::Dataset& dataset, std::uint32_t index, std::int32_t label,
                    std::span<const float> logits) {
  const std::vector<std::string>& names = dataset.class_names();
  return format("{},{},{},{}{}\n", index, csv_field(dataset.file(index)), label,
                csv_field(class_name(names, static_cast<std::size_t>(label))),
                csv_guesses(most_probable(logits, places_of(dataset)), names));
}

}  // namespace

std::string prediction_lines(const data::Dataset& dataset, const data::Batch& batch, std::span<const float> logits) {
  const auto classes = static_cast<std::size_t>(dataset.classes());
  std::string lines;
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
    lines += line_of(dataset, batch.indices[i], batch.labels[i], logits.subspan(i * classes, classes));
  }
  return lines;
}

PredictionFile::PredictionFile(comm::Communicator& communicator, const std::string& path, const data::Dataset& dataset)
    : communicator_(communicator), dataset_(dataset) {
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    const auto problem = attempt([&] { file_.emplace(path); });
    if (problem) throw Error(problem->kind(), format("--predictions {}", problem->what()));
    lines_ = header(dataset);
  });
}

void PredictionFile::add(const data::Batch& batch, std::span<const float> logits) {
  // The ranks' batches of a step follow each other in the data set.
  for (const std::string& lines : communicator_.gather_at_rank_0(prediction_lines(dataset_, batch, logits))) {
    lines_ += lines;
  }
}

void PredictionFile::commit() {
  agree(communicator_, [&] {
    if (communicator_.rank() != 0) return;
    file_->write(lines_);
    file_->commit();
  });
}

}  // namespace dcs3gd::app
