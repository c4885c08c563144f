#include "app/model/predictions.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <system_error>
#include <vector>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kPlaces = 5;

std::size_t places_of(const data::Dataset& dataset) {
  return std::min(kPlaces, static_cast<std::size_t>(dataset.classes()));
}

std::string header(const data::Dataset& dataset) {
  std::string line = "index,file,label,label_name";
  for (std::size_t place = 1; place <= places_of(dataset); ++place) {
    line += format(",class{},name{},probability{}", place, place, place);
  }
  return line + "\n";
}

/// A field as RFC 4180 wants it.
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string field = "\"";
  for (const char c : text) field += c == '"' ? "\"\"" : std::string(1, c);
  return field + "\"";
}

std::string name_of(const data::Dataset& dataset, std::size_t label) {
  const std::vector<std::string>& names = dataset.class_names();
  return label < names.size() ? quoted(names[label]) : "";
}

/// The classes with the largest logits, the largest first, of equal ones the lower class; NaN is below all.
std::vector<std::size_t> largest(std::span<const float> logits, std::size_t count) {
  std::vector<std::size_t> classes(logits.size());
  std::iota(classes.begin(), classes.end(), std::size_t{0});
  const auto height = [&](std::size_t c) {
    return std::isnan(logits[c]) ? -std::numeric_limits<float>::infinity() : logits[c];
  };
  const auto is_above = [&](std::size_t a, std::size_t b) {
    return height(a) != height(b) ? height(a) > height(b) : a < b;
  };
  std::ranges::partial_sort(classes, classes.begin() + static_cast<std::ptrdiff_t>(count), is_above);
  classes.resize(count);
  return classes;
}

std::string line_of(const data::Dataset& dataset, std::uint32_t index, std::int32_t label,
                    std::span<const float> logits) {
  const std::vector<std::size_t> classes = largest(logits, places_of(dataset));
  const double top = logits[classes.front()];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  std::string line = format("{},{},{},{}", index, quoted(dataset.file(index)), label,
                            name_of(dataset, static_cast<std::size_t>(label)));
  for (const std::size_t c : classes) {
    line += format(",{},{},{:.6g}", c, name_of(dataset, c), std::exp(logits[c] - top) / sum);
  }
  return line + "\n";
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
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      throw Error(ErrorKind::input, format("--predictions {}: is a folder, expected the name of a file", path));
    }
    const auto problem = attempt([&] { file_.emplace(path); });
    if (problem) throw Error(ErrorKind::input, format("--predictions: {}", problem->what()));
    lines_ = header(dataset);
  });
}

void PredictionFile::add(const data::Batch& batch, std::span<const float> logits) {
  // The ranks' batches of a step follow each other in the data set.
  const auto blobs = communicator_.all_gather(prediction_lines(dataset_, batch, logits));
  if (communicator_.rank() != 0) return;
  for (const std::string& lines : blobs) lines_ += lines;
}

void PredictionFile::commit() {
  agree(communicator_, [&] {
    if (communicator_.rank() != 0) return;
    file_->write(lines_);
    file_->commit();
  });
}

}  // namespace dcs3gd::app
