#include "app/model/tuning.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "nn/convolution/tuning.h"

namespace dcs3gd::app {
namespace {

/// Empty if the user has no folder for such things.
std::filesystem::path cache_file(const std::string& machine) {
  const std::filesystem::path folder = user_cache_folder();
  if (folder.empty()) return {};
  return folder / ("convolutions-" + hash_text(machine) + ".txt");
}

constexpr std::string_view kChecksum = "# checksum of what follows: ";

std::string checksum_line(std::string_view choices) { return format("{}{}\n", kChecksum, hash_text(choices)); }

std::string rest_of(std::ifstream& file) { return {std::istreambuf_iterator<char>(file), {}}; }

/// The first line names the machine, the others are choices. Empty for a file that is missing or not ours.
nn::ConvolutionChoices read_cache(const std::filesystem::path& path, const std::string& machine) {
  std::ifstream file(path);
  std::string first_line;
  if (!std::getline(file, first_line) || first_line != machine) return {};
  try {
    return nn::ConvolutionChoices::from_text(rest_of(file));
  } catch (const Error& error) {
    log::warn(format("{}: {}; measuring again", path.string(), error.what()));
    return {};
  }
}

void write_cache(const std::filesystem::path& path, const std::string& machine, const nn::ConvolutionChoices& choices) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  try {
    write_file_atomically(path, format("{}\n{}", machine, choices.to_text()));
  } catch (const Error& failure) {
    log::warn(format("{}; the next run will time its convolutions again", failure.what()));
  }
}

/// Times the convolutions that have no choice yet.
using Measure = std::function<void(nn::ConvolutionChoices& choices)>;

nn::ConvolutionChoices known_or_measured(const Measure& measure_missing) {
  const std::string machine = nn::describe_machine();
  const std::filesystem::path path = cache_file(machine);
  const nn::ConvolutionChoices known = read_cache(path, machine);
  nn::ConvolutionChoices choices = known;
  measure_missing(choices);
  if (choices != known && !path.empty()) write_cache(path, machine, choices);
  return choices;
}

/// Those of a run that continues; none, with a word, if its file is not as it was written.
std::optional<nn::ConvolutionChoices> choices_of_run(const std::string& file_of_run) {
  std::ifstream file(file_of_run);
  const std::string text = rest_of(file);
  // Files of earlier versions have no checksum.
  const std::size_t head = text.starts_with(kChecksum) ? text.find('\n') + 1 : 0;
  std::optional<nn::ConvolutionChoices> choices;
  const bool is_whole = head == 0 ? !text.empty() : text.substr(0, head) == checksum_line(text.substr(head));
  if (is_whole) {
    attempt([&] { choices = nn::ConvolutionChoices::from_text(text.substr(head)); });
  }
  if (choices) return choices;
  log::warn(format("{} is damaged: its convolutions are chosen anew, so the run goes on exactly but for rounding",
                   file_of_run));
  return std::nullopt;
}

}  // namespace

std::string text_for_run(const nn::ConvolutionChoices& choices) {
  return checksum_line(choices.to_text()) + choices.to_text();
}

nn::ConvolutionChoices choices_of_rank_0(comm::Communicator& communicator, const nn::ConvolutionChoices& mine) {
  return nn::ConvolutionChoices::from_text(communicator.from_rank_0(mine.to_text()));
}

nn::ConvolutionChoices tune_convolutions(const nn::Graph& graph, const Configuration& configuration,
                                         comm::Communicator& communicator, const std::string& file_of_run) {
  if (configuration.model.convolution == ConvolutionMode::direct) return {};
  nn::ConvolutionChoices choices;
  agree_on_rank_0(communicator, "timing convolutions", [&](const SignOfLife& gives_sign) {
    bool is_told = false;
    const auto before_each = [&] {
      if (!std::exchange(is_told, true)) {
        log::info("timing the ways to compute each convolution, once for this network, batch and machine: seconds");
      }
      gives_sign();
    };
    const Measure measure_missing = [&](nn::ConvolutionChoices& missing) {
      nn::measure_convolutions(graph, configuration.algorithm.images_per_pass(), configuration.model.precision, missing,
                               before_each);
    };
    std::optional<nn::ConvolutionChoices> of_run;
    if (std::filesystem::exists(file_of_run)) of_run = choices_of_run(file_of_run);
    if (of_run) {
      choices = std::move(*of_run);
      measure_missing(choices);
    } else {
      choices = known_or_measured(measure_missing);
    }
  });
  return choices_of_rank_0(communicator, choices);
}

}  // namespace dcs3gd::app
