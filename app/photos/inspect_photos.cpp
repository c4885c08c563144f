#include "app/photos/inspect_photos.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <vector>

#include "app/job/parallel_tasks.h"
#include "app/photos/task_progress.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/printable.h"
#include "data/photos/image_decoder.h"
#include "data/photos/open_photos.h"

namespace dcs3gd::app {
namespace {

/// The parts at `path`, one after the other, with the classes of the training part.
std::vector<data::Photos> open_parts(const std::string& path) {
  std::vector<data::Photos> parts;
  for (const std::string& folder : data::part_folders(path).all()) {
    const std::vector<std::string> classes = parts.empty() ? std::vector<std::string>() : parts.front().classes;
    parts.push_back(data::open_photos(folder, data::photo_form(folder), classes));
    if (const std::string& warning = parts.back().warning; !warning.empty())
      log::warn(format("{}: {}", folder, warning));
  }
  return parts;
}

std::string check(const data::PhotoSource& source, std::uint32_t index) {
  std::vector<std::uint8_t> file;
  data::DecodedImage image;
  const std::string problem = source.fetch(index, file);
  return problem.empty() ? data::decode_image(file, data::CropRule::whole(), image) : problem;
}

}  // namespace

void inspect_photos(const std::string& path) {
  for (const data::Photos& photos : open_parts(path)) {
    const data::PhotoSource& source = *photos.source;
    std::uint64_t total = 0;
    std::uint64_t smallest = source.bytes(0);
    std::uint64_t largest = 0;
    for (std::uint32_t index = 0; index < source.size(); ++index) {
      const std::uint64_t bytes = source.bytes(index);
      total += bytes;
      smallest = std::min(smallest, bytes);
      largest = std::max(largest, bytes);
    }
    std::printf("%s\n", photos.summary.c_str());
    std::printf("  files        %.1f MB in all, %llu to %llu bytes, mean %llu\n", static_cast<double>(total) / 1e6,
                static_cast<unsigned long long>(smallest), static_cast<unsigned long long>(largest),
                static_cast<unsigned long long>(total / source.size()));
    if (!photos.provenance.empty()) std::printf("  made         %s\n", photos.provenance.c_str());
    std::printf("  fingerprint  %s\n", photos.fingerprint.c_str());
    std::printf("  %5s  %9s  class\n", "label", "images");
    for (std::size_t label = 0; label < photos.classes.size(); ++label) {
      std::printf("  %5zu  %9u  %s\n", label, photos.class_counts[label], printable(photos.classes[label]).c_str());
    }
  }
}

void verify_photos(const std::string& path, int threads) {
  std::atomic<std::uint64_t> bad = 0;
  std::uint64_t images = 0;
  for (const data::Photos& photos : open_parts(path)) {
    const data::PhotoSource& source = *photos.source;
    log::info(photos.summary);
    TaskProgress progress("verifying", source.size());
    run_tasks(source.size(), threads, [&](std::uint64_t number) {
      const auto index = static_cast<std::uint32_t>(number);
      if (const std::string problem = check(source, index); !problem.empty()) {
        ++bad;
        log::warn(format("{}: {}", source.name(index), problem));
      }
      progress.add(1);
    });
    images += source.size();
  }
  if (bad > 0) {
    throw Error(ErrorKind::input, format("{} of {} images cannot be read; they are named above", bad.load(), images));
  }
  log::info(format("all {} images can be read", images));
}

}  // namespace dcs3gd::app
