#include "app/photos/first_configuration.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <vector>

#include "app/config/configuration.h"
#include "app/config/value_format.h"
#include "core/error.h"
#include "core/format.h"
#include "core/printable.h"
#include "data/formats.h"
#include "data/paths.h"
#include "data/photos/image_decoder.h"
#include "data/photos/open_photos.h"

namespace dcs3gd::app {
namespace {

constexpr std::uint32_t kLookedAt = 64;  // photos whose size is read
constexpr double kEvaluationShare = 0.2;
constexpr int kSmallImage = 64;  // a shorter side up to here needs no network for photos
constexpr std::int64_t kWantedSteps = 3000;

/// What follows from the photos.
struct Proposal {
  std::string network;
  int image_size = 0;
  std::int64_t batch = 0;
  std::int64_t epochs = 0;
  bool is_small = false;
};

/// The median of the photos' shorter sides, of those that can be read.
int usual_side(const data::PhotoSource& photos) {
  std::vector<int> sides;
  std::vector<std::uint8_t> file;
  const std::uint32_t stride = std::max<std::uint32_t>(photos.size() / kLookedAt, 1);
  for (std::uint32_t index = 0; index < photos.size(); index += stride) {
    data::ImageSize size;
    if (photos.fetch(index, file).empty() && data::read_image_size(file, size).empty()) {
      sides.push_back(std::min(size.width, size.height));
    }
  }
  if (sides.empty()) {
    throw Error(ErrorKind::input, format("{}: not one of the photos looked at can be read; dcs3gd-data verify names "
                                         "them",
                                         photos.name(0)));
  }
  const auto middle = sides.begin() + static_cast<std::ptrdiff_t>(sides.size() / 2);
  std::ranges::nth_element(sides, middle);
  return *middle;
}

/// Twenty steps an epoch and, in twenty epochs at least and fifty at most, three thousand in all, if there are so many
/// photos: minutes to hours, enough to see whether it learns.
Proposal propose(std::int64_t images, int side) {
  Proposal result;
  result.is_small = side <= kSmallImage;
  constexpr std::int64_t kFew = 2000;
  constexpr std::int64_t kMany = 20000;
  result.image_size = result.is_small ? 32 : images < kFew ? 96 : images < kMany ? 128 : 224;
  if (!result.is_small) result.image_size = std::min(result.image_size, side / 32 * 32);
  result.network = result.is_small ? "resnet20" : images < kMany ? "resnet18" : "resnet50";
  const auto twentieth = static_cast<std::uint64_t>(std::max<std::int64_t>(images / 20, 1));
  result.batch = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::bit_floor(twentieth)), 8, 64);
  result.batch = std::min(result.batch, images);
  result.epochs = std::clamp<std::int64_t>(kWantedSteps / std::max<std::int64_t>(images / result.batch, 1), 20, 50);
  return result;
}

}  // namespace

std::string first_configuration(const std::string& folder) {
  std::error_code ignored;
  const bool is_here = std::filesystem::exists(folder, ignored);
  const data::PartFolders folders = data::part_folders(
      is_here ? std::filesystem::absolute(folder).lexically_normal().string() : data::resolve_data_path(folder));
  const data::PhotoForm form = data::photo_form(folders.train);
  const data::Photos train = data::open_photos(folders.train, form);
  const bool is_split = folders.eval.empty() || folders.eval == folders.train;
  if (train.classes.size() < 2) {
    throw Error(ErrorKind::input, format("{}: expected a folder of photos for each class, found one class; a model "
                                         "needs two at least to tell apart",
                                         folders.train));
  }
  if (is_split && form != data::PhotoForm::image_folder) {
    throw Error(ErrorKind::input,
                format("{}: expected a part to evaluate on beside train (val, valid, validation or test)", folder));
  }
  const auto all = static_cast<std::int64_t>(train.source->size());
  const std::int64_t images =
      is_split ? all - static_cast<std::int64_t>(kEvaluationShare * static_cast<double>(all)) : all;
  const int side = usual_side(*train.source);
  const Proposal proposal = propose(images, side);
  const auto& [fewest, most] = std::ranges::minmax(train.class_counts);

  std::string text = format(
      "# Made by dcs3gd-train --init-config for\n"
      "#   {}\n"
      "# {} images of {} classes, {} to {} of each; the shorter side is usually {} pixels.\n"
      "#   dcs3gd-train --config FILE --dry-run      says what it needs and how long it takes\n"
      "#   dcs3gd-train --config FILE                trains; the same line continues it\n"
      "#   dcs3gd-predict runs/NAME PHOTOS...        what the model says of photos\n"
      "# All keys with their meaning: dcs3gd-train --print-keys\n",
      printable(folders.train), all, train.classes.size(), fewest, most, side);
  text += format("run:\n  epochs: {:<24}  # times each photo is seen; more while the evaluation still gets better\n",
                 proposal.epochs);
  text += "  threads: auto                     # all cores of the machine that other ranks do not use\n";
  text += format(
      "model:\n  name: {:<26}  # larger ones need more photos and time: resnet34, resnet50\n"
      "  classes: auto                     # as many as the folder has\n",
      proposal.network);
  text += format("data:\n  format: {}\n  train: {}\n",
                 form == data::PhotoForm::image_folder ? "image_folder" : "shards", print_text(folders.train));
  text += is_split ? format("  split: {:<25}  # of each class, kept for evaluation: the folder has no such part\n",
                            kEvaluationShare)
                   : format("  eval: {}\n", print_text(folders.eval));
  text += format("  image_size: {:<20}  # pixels that the network sees; more shows finer detail and takes longer\n",
                 proposal.image_size);
  text += proposal.is_small
              ? "  augment: {random_crop_padding: 4, horizontal_flip: true}    # no flip where left and right matter\n"
              : "  augment: {random_resized_crop: true, horizontal_flip: true} # no flip where left and right matter\n";
  text += "  loader: {threads: auto, on_bad_image: skip}                 # photos that cannot be read are named\n";
  text += format(
      "algorithm:\n"
      "  name: ssgd                        # on several machines: configs/MANY_MACHINES.md\n"
      "  batch_per_worker: {:<14}  # photos per step; fewer if memory is short\n"
      "optimizer:\n"
      "  nesterov: true\n"
      "  weight_decay: 5.0e-4\n"
      "  lr:\n"
      "    base: 0.05                      # for reference_batch; try a third and three times as much\n"
      "    reference_batch: 64\n"
      "    warmup_epochs: {:<15}  # the rate rises, then falls to 0 with the last epoch\n"
      "    schedule: cosine\n"
      "checkpoint: {{every_epochs: null, every_minutes: 10}}           # and at the end\n",
      proposal.batch, std::min<std::int64_t>(proposal.epochs / 10, 5));
  // What is written is a configuration, whatever the folder is called.
  parse_configuration({.file_name = "the proposal", .text = text, .overrides = {"run.name=proposal"}});
  return text;
}

}  // namespace dcs3gd::app
