#include "data/formats.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/format.h"
#include "data/paths.h"
#include "data/photos/photo_dataset.h"
#include "data/stored/cifar_reader.h"
#include "data/stored/idx_reader.h"
#include "data/stored/stored_dataset.h"
#include "data/synthetic_dataset.h"

namespace dcs3gd::data {
namespace {

/// Far above any use, low enough that sizes in bytes cannot overflow.
constexpr int kMaxImageSize = 16384;

std::shared_ptr<const Dataset> open_synthetic(const OpenRequest& request) {
  return std::make_shared<SyntheticDataset>(request.options, request.part, request.seed, request.classes);
}

template <auto kRead>
std::shared_ptr<const Dataset> open_stored(const OpenRequest& request) {
  return std::make_shared<StoredDataset>(kRead(request.path, request.part, request.classes), request.options.image_size,
                                         request.options.channels, request.classes,
                                         format("{} {}", request.options.format, request.path));
}

const NormalizeOptions kHalf{.mean = {0.5F}, .std = {0.25F}};
const NormalizeOptions kImageNet{.mean = {0.485F, 0.456F, 0.406F}, .std = {0.229F, 0.224F, 0.225F}};

const FormatInfo kFormats[] = {
    {"synthetic", kHalf, open_synthetic, FormatInfo::Files::none},
    {"cifar10", {{0.4914F, 0.4822F, 0.4465F}, {0.2470F, 0.2435F, 0.2616F}}, open_stored<read_cifar10>},
    {"cifar100", {{0.5071F, 0.4865F, 0.4409F}, {0.2673F, 0.2564F, 0.2762F}}, open_stored<read_cifar100>},
    {"idx", {{0.2860F}, {0.3530F}}, open_stored<read_idx>},
    {"image_folder", kImageNet, open_photo_dataset, FormatInfo::Files::listed},
    {"shards", kImageNet, open_photo_dataset, FormatInfo::Files::listed},
};

void check_image_options(const DataOptions& options, int classes) {
  if (options.image_size < 1 || options.image_size > kMaxImageSize) {
    throw Error(ErrorKind::input,
                format("data.image_size: expected 1 to {} pixels, found {}", kMaxImageSize, options.image_size));
  }
  if (options.channels != 1 && options.channels != 3) {
    throw Error(ErrorKind::input, format("data.channels: expected 1 or 3, found {}", options.channels));
  }
  if (classes < 1) throw Error(ErrorKind::input, format("model.classes: expected at least 1, found {}", classes));
}

}  // namespace

std::span<const FormatInfo> formats() { return kFormats; }

const FormatInfo& format_of(const DataOptions& options) {
  const auto found = std::ranges::find(formats(), options.format, &FormatInfo::name);
  if (found != formats().end()) return *found;
  throw Error(ErrorKind::input, format("data.format: there is no format '{}'", options.format));
}

NormalizeOptions normalization_of(const DataOptions& options) {
  const NormalizeOptions& own = format_of(options).normalization;
  const auto channels = static_cast<std::size_t>(options.channels);
  const NormalizeOptions& values = own.mean.size() == 1 || own.mean.size() == channels ? own : kHalf;
  const auto choose = [channels](const std::vector<float>& configured, const std::vector<float>& fallback) {
    if (!configured.empty()) return configured;
    return fallback.size() == channels ? fallback : std::vector(channels, fallback.front());
  };
  return {.mean = choose(options.normalize.mean, values.mean), .std = choose(options.normalize.std, values.std)};
}

std::shared_ptr<const Dataset> open_dataset(const DataOptions& options, Part part, std::uint64_t seed, int classes,
                                            std::string_view listing, const std::vector<std::string>& class_names) {
  const FormatInfo& info = format_of(options);
  check_image_options(options, classes);
  auto dataset = info.open({.options = options,
                            .part = part,
                            .seed = seed,
                            .classes = classes,
                            .path = info.is_generated() ? "" : part_path(options, part),
                            .listing = listing,
                            .class_names = class_names});
  if (part == Part::train && dataset->classes_found() < 2) {
    throw Error(ErrorKind::input,
                format("{}: found one class; a model needs two at least to tell apart", dataset->description()));
  }
  return dataset;
}

std::uint32_t count_shared(const Dataset& train, const Dataset& eval) {
  std::unordered_map<std::uint64_t, std::uint32_t> images;
  for (std::uint32_t index = 0; index < eval.size(); ++index) {
    if (const auto identity = eval.identity(index)) ++images[*identity];
  }
  std::uint32_t shared = 0;
  for (std::uint32_t index = 0; index < train.size() && !images.empty(); ++index) {
    const auto identity = train.identity(index);
    if (!identity) break;
    if (const auto found = images.find(*identity); found != images.end()) {
      shared += found->second;
      images.erase(found);
    }
  }
  return shared;
}

bool is_data_present(const DataOptions& options, Part part) {
  return format_of(options).is_generated() || has_part(options, part);
}

}  // namespace dcs3gd::data
