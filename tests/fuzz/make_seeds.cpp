// Writes what the fuzz targets start from: small files of each kind, made by code. Usage: make_seeds FOLDER, in which
// each target gets a folder of its name.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "app/checkpoint/checkpoint_manifest.h"
#include "app/config/configuration.h"
#include "app/config/network_reader.h"
#include "app/model/model_card.h"
#include "app/model/safetensors.h"
#include "core/error.h"
#include "core/hash.h"
#include "data/photos/image_folder.h"
#include "data/photos/shards.h"
#include "nn/plan/convolution_choices.h"
#include "tests/data/encoded_images.h"
#include "tests/data/tar_file.h"

namespace {

namespace fs = std::filesystem;
using namespace dcs3gd;
using namespace dcs3gd::data;
using Bytes = std::vector<std::uint8_t>;

class Seeds {
 public:
  Seeds(const fs::path& folder, const std::string& target) : folder_(folder / target) {
    fs::create_directories(folder_);
  }
  std::string path(const std::string& name) const { return folder_ / name; }
  void add(const std::string& name, const std::string& content) const {
    std::ofstream file(path(name), std::ios::binary);
    file << content;
    file.close();
    if (!file.good()) throw Error(ErrorKind::failure, path(name) + ": cannot be written");
  }
  void add(const std::string& name, const Bytes& content) const {
    add(name, std::string(content.begin(), content.end()));
  }

 private:
  fs::path folder_;
};

void make_images(const Seeds& seeds) {
  for (const ImageSize size : {ImageSize{5, 4}, ImageSize{40, 33}}) {
    for (const int channels : {1, 3, 4}) {
      const std::string name = std::to_string(size.width) + "-" + std::to_string(channels);
      const Bytes pixels = picture(size, channels, 1);
      seeds.add(name + ".png", png_file(size, channels, pixels));
      seeds.add(name + ".jpg", jpeg_file(size, channels, pixels));
      seeds.add(name + "-progressive.jpg", jpeg_file(size, channels, pixels, {.progressive = true}));
    }
  }
}

void make_shard(const Seeds& seeds) {
  ShardIndex index{.records = {}, .names = std::string("a/1.png\0b/2.png\0", 16), .source_hash = 7};
  std::string content = shard_header();
  for (std::int32_t label = 0; label < 2; ++label) {
    const Bytes file = png_file({2, 2}, 3, picture({2, 2}, 3, 1));
    index.records.push_back({.offset = content.size(),
                             .checksum = hash_bytes(std::as_bytes(std::span(file))),
                             .bytes = static_cast<std::uint32_t>(file.size()),
                             .label = label});
    content.append(file.begin(), file.end());
  }
  seeds.add("two", content + shard_footer(index, content.size()));
}

void make_weights(const Seeds& seeds) {
  ParameterArena weights(std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{"fc.weight", {4, 2}}, {"fc.bias", {4}, ParameterKind::bias}}));
  std::ranges::fill(weights.values(), 1.0F);
  app::save_safetensors(seeds.path("model"), {&weights}, {{"format", "pt"}});
}

/// Two images of 1×2 pixels and their labels, after the length of the former.
void make_idx(const Seeds& seeds) {
  const Bytes images{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40};
  const Bytes labels{0, 0, 8, 1, 0, 0, 0, 2, 3, 4};
  Bytes both{static_cast<std::uint8_t>(images.size()), 0};
  both.insert(both.end(), images.begin(), images.end());
  both.insert(both.end(), labels.begin(), labels.end());
  seeds.add("plain", both);
  const Bytes packed = gzip(images);
  both = {static_cast<std::uint8_t>(packed.size()), 0};
  both.insert(both.end(), packed.begin(), packed.end());
  both.insert(both.end(), labels.begin(), labels.end());
  seeds.add("gzip", both);
}

void make_tars(const Seeds& seeds) {
  const std::string name(110, 'n');
  seeds.add("two", tar_file({tar_member("a/", "", '5'), tar_member("a/1.png", "image"), tar_member("a/1.cls", "7"),
                             tar_member("a/1.json", "{}"), tar_member("b.jpg", "image"), tar_member("b.cls", "0")}));
  seeds.add("gnu", tar_file({tar_member("L", name + ".cls", 'L'), tar_member("cut", "1"),
                             tar_member("L", name + ".jpg", 'L'), tar_member("cut", "image")}));
  seeds.add("pax", tar_file({tar_member("g", "13 comment=x\n", 'g'), tar_member("x", "14 path=a.cls\n", 'x'),
                             tar_member("cut", "1"), tar_member("x", "14 path=a.jpg\n9 size=5\n", 'x'),
                             tar_member("cut", "image")}));
}

void make_manifest(const Seeds& seeds) {
  app::CheckpointManifest manifest{.version = "0.4.0", .isa = "avx2", .data_fingerprint = "synthetic"};
  manifest.rule = {{"lr", 0.1}};
  manifest.configuration = {"run.epochs: 3"};
  manifest.files = {{"shared.state", {.bytes = 80, .hash = 7}}};
  seeds.add("one", app::to_text(manifest));
  manifest.evaluated_at_step = 4;
  manifest.best_top1 = 0.5;
  seeds.add("evaluated", app::to_text(manifest));
}

void make_listing(const Seeds& seeds) {
  const std::string names("a/1.png\0b c/2.jpg\0", 18);
  seeds.add("two", to_text(ImageListing{.folder = "photos",
                                        .classes = {"a", "b c"},
                                        .names = names,
                                        .entries = {{0, 10, 0}, {8, 20, 1}},
                                        .class_counts = {1, 1},
                                        .fingerprint = "0123456789abcdef"}));
}

void make_choices(const Seeds& seeds) {
  nn::ConvolutionChoices choices;
  choices.set({.src = {64, 56, 56}, .images = 32}, nn::ConvolutionAlgorithm::winograd);
  choices.set({.src = {3, 32, 32}, .images = 8}, nn::ConvolutionAlgorithm::direct);
  seeds.add("two", choices.to_text());
}

/// A record of CIFAR-10, and one of CIFAR-100.
void make_cifar(const Seeds& seeds) {
  constexpr std::size_t kPixels = 3 * 32 * 32;
  seeds.add("10", Bytes(1 + kPixels, 1));
  seeds.add("100", Bytes(2 + kPixels, 1));
}

void make_metrics(const Seeds& seeds) {
  seeds.add("lines", R"({"event":"start","version":"0.4.0"})"
                     "\n"
                     R"({"event":"step","step":3,"loss":0.5})"
                     "\n"
                     R"({"event":"eval","step":4})"
                     "\n");
  seeds.add("summary", std::string(R"({"event":"end","status":"done"})"));
}

void make_cards(const Seeds& seeds) {
  const app::ModelCard card = app::model_card({});
  seeds.add("defaults", app::to_metadata(card).at("dcs3gd.card"));
}

void make_networks(const Seeds& seeds) {
  for (const std::string& name : app::network_names()) seeds.add(name, app::named_network(name).text);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_seeds FOLDER\n");
    return 2;
  }
  const fs::path folder = argv[1];
  make_images({folder, "image_fuzz"});
  make_shard({folder, "shards_fuzz"});
  make_tars({folder, "tar_fuzz"});
  const ShardManifest manifest{.classes = {"a", "b c"}, .shards = {{"shard-00000.bin", 2}, {"shard-00001.bin", 30}}};
  Seeds(folder, "shard_manifest_fuzz").add("two", to_text(manifest));
  make_weights({folder, "safetensors_fuzz"});
  make_idx({folder, "idx_fuzz"});
  make_manifest({folder, "checkpoint_manifest_fuzz"});
  make_listing({folder, "listing_fuzz"});
  make_choices({folder, "convolution_choices_fuzz"});
  make_networks({folder, "network_fuzz"});
  make_cifar({folder, "cifar_fuzz"});
  make_metrics({folder, "metrics_fuzz"});
  make_cards({folder, "model_card_fuzz"});
  Seeds(folder, "configuration_fuzz").add("defaults.yaml", app::to_yaml({}));
  return 0;
}
