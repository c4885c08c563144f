#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

#include "core/hash.h"
#include "data/batch_loader.h"
#include "data/photos/image_decoder.h"
#include "data/photos/image_folder.h"
#include "data/photos/open_photos.h"
#include "data/photos/shards.h"
#include "data/transform/color_jitter.h"
#include "data/transform/resample.h"
#include "tests/data/data_test_support.h"
#include "tests/data/encoded_images.h"
#include "tests/support/file_helpers.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

/// A folder of small photos of several sizes: class "b" with 7, class "a" with 6.
class PhotoFolder {
 public:
  PhotoFolder() {
    for (int i = 0; i < 13; ++i) {
      const ImageSize size{40 + 3 * i, 60 - 2 * i};
      const Bytes pixels = picture(size, 3, static_cast<std::uint64_t>(i));
      const std::string name = (i < 7 ? "b/" : "a/") + std::to_string(i);
      fs::create_directories(folder_ / (i < 7 ? "b" : "a"));
      write_file(path(name + (i % 3 == 0 ? ".png" : ".JPEG")),
                 i % 3 == 0 ? png_file(size, 3, pixels) : jpeg_file(size, 3, pixels));
    }
  }
  std::string path() const { return folder_.path(); }
  std::string path(const std::string& name) const { return folder_ / name; }

  DataOptions options() const {
    DataOptions options;
    options.format = "image_folder";
    options.train = options.eval = path();
    options.image_size = 24;
    options.augment = {
        .random_crop_padding = 2, .random_resized_crop = true, .horizontal_flip = true, .color_jitter = 0.4F};
    return options;
  }

 private:
  TemporaryFolder folder_;
};

/// The message of the Error{failure} that `action` must throw: what goes wrong in a run is no wrong input.
template <typename Action>
std::string failure(Action&& action) {
  const Error error = test::error_of(action);
  CHECK(error.kind() == ErrorKind::failure);
  return error.what();
}

std::vector<std::vector<float>> all_images(const std::shared_ptr<const Dataset>& dataset, const DataOptions& options,
                                           const SamplePlan& plan, int threads) {
  BatchLoader loader(dataset, options, plan, threads);
  std::vector<std::vector<float>> batches;
  while (const Batch* batch = loader.next()) {
    batches.emplace_back(batch->images.begin(), batch->images.end());
    batches.back().insert(batches.back().end(), batch->labels.begin(), batch->labels.end());
    batches.back().push_back(static_cast<float>(batch->count));
  }
  return batches;
}

}  // namespace

TEST_CASE("image folder: classes and images in the order of their names") {
  const PhotoFolder folder;
  write_file(folder.path(".hidden.jpg"), {1});
  write_file(folder.path("a/.hidden.jpg"), {1});
  write_file(folder.path("a/readme.txt"), {1});
  fs::create_directory(folder.path("a/deeper"));
  fs::create_directory(folder.path(".cache"));
  fs::create_symlink("10.JPEG", folder.path("a/link.jpg"));
  fs::create_directory_symlink("b", folder.path("c"));

  const std::vector<std::string> classes = list_classes(folder.path());
  CHECK(classes == std::vector<std::string>{"a", "b", "c"});
  const ImageListing listing = list_images(folder.path(), classes);
  CHECK(listing.class_counts == std::vector<std::uint32_t>{7, 7, 7});
  CHECK(listing.ignored == 1);
  CHECK(listing.subfolders == 1);
  CHECK(std::string(listing.name(0)) == "a/10.JPEG");
  CHECK(std::string(listing.name(6)) == "a/link.jpg");
  CHECK(std::string(listing.name(7)) == "b/0.png");
  CHECK(std::string(listing.name(20)) == "c/6.png");
  CHECK(listing.entries[20].label == 2);

  const auto dataset = open_dataset(folder.options(), Part::train, 1, 5);
  CHECK(dataset->size() == 21);
  CHECK(contains(dataset->description(), "21 images of 3 classes (a 7, b 7, c 7), 1 other files passed over"));
  const std::string fingerprint = dataset->fingerprint();
  CHECK(fingerprint == open_dataset(folder.options(), Part::train, 1, 5)->fingerprint());
  write_file(folder.path("a/10.JPEG"), Bytes(5));
  CHECK(fingerprint != open_dataset(folder.options(), Part::train, 1, 5)->fingerprint());
}

TEST_CASE("image folder: evaluation has the labels of training") {
  const PhotoFolder folder;
  const TemporaryFolder both;
  fs::create_directory_symlink(folder.path(), both / "train");
  fs::create_directories(both / "val/b");
  fs::copy_file(folder.path("b/1.JPEG"), both / "val/b/x.jpg");
  DataOptions options = folder.options();
  options.train = options.eval = both.path();
  CHECK(open_dataset(options, Part::train, 1, 2)->size() == 13);
  const auto eval = open_dataset(options, Part::eval, 1, 2);
  REQUIRE(eval->size() == 1);
  std::int32_t label = -1;
  read_image(*eval, 0, &label);
  CHECK(label == 1);

  fs::rename(both / "val/b", both / "val/z");
  CHECK(contains(input_error([&] { open_dataset(options, Part::eval, 1, 2); }),
                 "val/z: no class of this name among those that the model learns or has learnt (a, b)"));
}

TEST_CASE("image folder: what cannot be opened") {
  const PhotoFolder folder;
  const auto message = [&](int classes) {
    return input_error([&] { open_dataset(folder.options(), Part::train, 1, classes); });
  };
  CHECK(contains(message(1), "model.classes is 1, found 2 classes; set model.classes: 2"));
  fs::create_directory(folder.path("empty"));
  CHECK(contains(message(3), "empty: expected images (.jpg, .jpeg, .png), found none"));
  fs::remove(folder.path("empty"));
  fs::create_symlink("nowhere.jpg", folder.path("a/broken.jpg"));
  CHECK(contains(message(3), "a/broken.jpg: the link leads nowhere"));
  fs::remove(folder.path("a/broken.jpg"));

  DataOptions options = folder.options();
  options.train = folder.path("a");
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 2); }), "found no folder"));
  const auto dataset = open_dataset(folder.options(), Part::eval, 1, 2);
  CHECK(contains(input_error([&] { BatchLoader(dataset, folder.options(), {.batch_per_worker = 14}, 1); }),
                 "found 13 images"));
}

TEST_CASE("photos: batches do not depend on threads, nor on how the workers are spread") {
  const PhotoFolder folder;
  const DataOptions options = folder.options();
  const auto dataset = open_dataset(options, Part::train, 1, 2);
  const SamplePlan plan{.seed = 3, .workers_per_rank = 2, .workers = 2, .batch_per_worker = 3, .epochs = 4};
  const auto expected = all_images(dataset, options, plan, 0);
  CHECK(expected.size() == 2 * 2 * 4);
  for (const int threads : {1, 2, 4}) CHECK(all_images(dataset, options, plan, threads) == expected);
  SamplePlan rank = plan;
  rank.workers_per_rank = 1;
  rank.rank = 1;
  const auto second = all_images(dataset, options, rank, 2);
  for (std::size_t step = 0; step < second.size(); ++step) CHECK(second[step] == expected[2 * step + 1]);
}

TEST_CASE("photos: random crops of images that have their size already") {
  DataOptions options;
  options.synthetic.train_images = 8;
  const auto dataset = open_dataset(options, Part::train, 1, 5);
  ReadBuffers buffers;
  Bytes pixels(dataset->image_bytes());
  const Bytes plain = read_image(*dataset, 3);
  const RandomStream random(1, RandomPurpose::test);
  dataset->read(3, CropRule::random_resized(32, random), buffers, pixels);
  CHECK(pixels != plain);

  // The same by hand: the crop of the image as a PNG.
  Bytes rgb;
  for (std::size_t i = 0; i < 32 * 32; ++i) rgb.insert(rgb.end(), {plain[i], plain[1024 + i], plain[2048 + i]});
  DecodedImage image;
  REQUIRE(decode_image(png_file({32, 32}, 3, rgb), CropRule::random_resized(32, random), image) == "");
  Bytes expected(pixels.size());
  resample(image, 3, expected);
  CHECK(pixels == expected);
}

TEST_CASE("photos: bad images end the run or are replaced by the next good one") {
  const PhotoFolder folder;
  DataOptions options = folder.options();
  options.augment = {};
  options.shuffle = false;
  // Opened first: files change while a run is on.
  const auto dataset = open_dataset(options, Part::train, 1, 2);
  write_file(folder.path("a/12.png"), {});
  write_file(folder.path("b/0.png"), {'j', 'u', 'n', 'k'});
  fs::remove(folder.path("b/6.png"));  // the last image: its successor is the first

  const SamplePlan plan{.batch_per_worker = 13};
  {
    BatchLoader loader(dataset, options, plan, 2);
    const std::string message = failure([&] { loader.next(); });
    CHECK(contains(message, folder.path("a/12.png") + ": the file is empty"));
    CHECK(contains(message, "data.loader.on_bad_image: skip"));
  }
  options.loader.on_bad_image = OnBadImage::skip;
  BatchLoader loader(dataset, options, plan, 1);
  const Batch* batch = loader.next();
  REQUIRE(batch != nullptr);
  CHECK(batch->count == 13);
  // a: 10 11 12 7 8 9, b: 0 1 2 3 4 5 6; 12 is image 2, 0 is image 6, 6 is image 12.
  const auto image = [&](std::size_t position) {
    const float* first = batch->images.begin() + position * dataset->image_bytes();
    return std::vector<float>(first, first + dataset->image_bytes());
  };
  CHECK(image(2) == image(3));
  CHECK(image(6) == image(7));
  CHECK(image(12) == image(0));
  CHECK(image(1) != image(2));
  CHECK(batch->labels == std::vector<std::int32_t>{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0});
  CHECK(loader.bad_images() == 3);

  // Evaluation leaves them out.
  BatchLoader evaluation(dataset, options, {.part = Part::eval, .batch_per_worker = 13}, 1);
  batch = evaluation.next();
  CHECK(batch->count == 10);
  CHECK(batch->labels == std::vector<std::int32_t>{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0});
  CHECK(evaluation.bad_images() == 3);

  for (const char* name : {"a", "b"}) fs::remove_all(folder.path(name));
  BatchLoader none(dataset, options, plan, 1);
  CHECK(contains(failure([&] { none.next(); }), "64 images in a row cannot be read"));
}

TEST_CASE("photos: too many bad images in all end the run, however they are spread") {
  const TemporaryFolder folder;
  for (int i = 0; i < 200; ++i) {
    const std::string name = (i < 100 ? "a/" : "b/") + std::to_string(1000 + i) + ".png";
    fs::create_directories(folder / (i < 100 ? "a" : "b"));
    write_file(folder / name, i % 3 == 0 ? Bytes{'?'} : png_file({4, 4}, 1, Bytes(16, 9)));
  }
  DataOptions options;
  options.format = "image_folder";
  options.train = options.eval = folder.path();
  options.image_size = 4;
  options.loader.on_bad_image = OnBadImage::skip;
  const auto dataset = open_dataset(options, Part::train, 1, 2);
  BatchLoader loader(dataset, options, {.batch_per_worker = 200}, 1);
  CHECK(contains(failure([&] { loader.next(); }), "that makes 65 of 200 images that this rank cannot read"));
}

TEST_CASE("photos: a folder that goes away for a moment does no harm") {
  const PhotoFolder folder;
  DataOptions options = folder.options();
  const auto dataset = open_dataset(options, Part::train, 1, 2);
  fs::rename(folder.path("a"), folder.path("gone"));
  std::jthread storage([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    fs::rename(folder.path("gone"), folder.path("a"));
  });
  BatchLoader loader(dataset, options, {.batch_per_worker = 13}, 1);
  CHECK(loader.next()->count == 13);
}

TEST_CASE("image folder: images in folders below a class are its images, in torchvision's order") {
  const PhotoFolder folder;
  const Bytes photo = png_file({4, 4}, 3, picture({4, 4}, 3, 1));
  fs::create_directories(folder.path("a/more/deep"));
  fs::create_directories(folder.path("a/.hidden"));
  for (const char* name : {"a/more/1.png", "a/more/deep/0.png", "a/.hidden/0.png", "a/zz.png"}) {
    write_file(folder.path(name), photo);
  }
  const ImageListing listing = list_images(folder.path(), list_classes(folder.path()));
  CHECK(listing.class_counts == std::vector<std::uint32_t>{9, 7});
  std::vector<std::string> names;
  for (std::uint32_t index = 5; index < 9; ++index) names.emplace_back(listing.name(index));
  // sorted(os.walk(…)): all of a folder before those below it.
  CHECK(names == std::vector<std::string>{"a/9.png", "a/zz.png", "a/more/1.png", "a/more/deep/0.png"});
  CHECK(listing.ignored == 0);
  CHECK_FALSE(is_watched(to_text(listing)));
  CHECK(open_dataset(folder.options(), Part::train, 1, 2, to_text(listing))->size() == 16);
  fs::create_directory_symlink("..", folder.path("a/more/back"));
  CHECK(contains(input_error([&] { list_images(folder.path(), list_classes(folder.path())); }), "lead back"));
}

TEST_CASE("image folder: labels mean what the model's classes of those names mean, in whatever order those are") {
  const PhotoFolder folder;
  const std::vector<std::string> names{"z", "b", "y", "a"};
  const auto dataset = open_dataset(folder.options(), Part::eval, 1, 4, "", names);
  std::int32_t label = -1;
  read_image(*dataset, 0, &label);
  CHECK(label == 1);
  read_image(*dataset, 12, &label);
  CHECK(label == 3);
  CHECK(dataset->class_names() == names);
  CHECK(contains(input_error([&] {
                   open_dataset(folder.options(), Part::eval, 1, 2, "", {"cat", "dog"});
                 }),
                 "no class of this name among those that the model learns or has learnt (cat, dog)"));

  DataOptions alone = folder.options();
  alone.train = folder.path("nowhere");
  CHECK(contains(input_error([&] { open_dataset(alone, Part::eval, 1, 3); }),
                 "found 2 classes, the model has 3, and neither its weights nor data.train say which these are"));
  CHECK(open_dataset(alone, Part::eval, 1, 2)->size() == 13);
}

TEST_CASE("image folder: parts by their names, and roots that are no classes") {
  const PhotoFolder folder;
  const TemporaryFolder both;
  fs::create_directory_symlink(folder.path(), both / "train");
  DataOptions options = folder.options();
  options.train = options.eval = both.path();
  CHECK(open_dataset(options, Part::train, 1, 2)->size() == 13);
  CHECK(contains(input_error([&] { open_dataset(options, Part::eval, 1, 2); }),
                 "found the folder train but none of val, valid, validation and test; name the folder"));
  fs::create_directories(both / "test/a");
  write_file(both / "test/a/1.png", png_file({4, 4}, 3, picture({4, 4}, 3, 1)));
  CHECK(open_dataset(options, Part::eval, 1, 2)->size() == 1);
  CHECK(count_shared(*open_dataset(options, Part::train, 1, 2), *open_dataset(options, Part::eval, 1, 2)) == 0);
  fs::remove_all(both / "test/a");
  fs::create_directories(both / "test/a");
  fs::copy_file(folder.path("a/8.JPEG"), both / "test/a/8.JPEG");
  CHECK(count_shared(*open_dataset(options, Part::train, 1, 2), *open_dataset(options, Part::eval, 1, 2)) == 1);

  // A class that is called train.
  fs::rename(folder.path("a"), folder.path("train"));
  fs::rename(folder.path("b"), folder.path("val"));
  CHECK(open_dataset(folder.options(), Part::train, 1, 2)->size() == 13);
  fs::remove_all(folder.path("val"));
  CHECK(contains(input_error([&] { open_dataset(folder.options(), Part::train, 1, 2); }), "found one class"));
}

TEST_CASE("image folder: a split keeps a share of each class for evaluation, by the names of the files alone") {
  const PhotoFolder folder;
  DataOptions options = folder.options();
  options.eval.clear();
  options.split = 0.3;
  const auto files_of = [&](Part part) {
    const auto dataset = open_dataset(options, part, 1, 2);
    std::vector<std::string> files;
    for (std::uint32_t index = 0; index < dataset->size(); ++index) {
      files.push_back(fs::relative(dataset->file(index), options.train).string());
    }
    return files;
  };
  const std::vector<std::string> train = files_of(Part::train);
  const std::vector<std::string> eval = files_of(Part::eval);
  CHECK(train.size() == 9);
  CHECK(eval.size() == 4);  // 2 of 6 and 2 of 7
  CHECK(std::ranges::count_if(eval, [](const std::string& file) { return file.starts_with("a/"); }) == 2);
  CHECK(std::ranges::none_of(eval, [&](const std::string& file) { return std::ranges::count(train, file) > 0; }));
  CHECK(count_shared(*open_dataset(options, Part::train, 1, 2), *open_dataset(options, Part::eval, 1, 2)) == 0);
  CHECK(contains(open_dataset(options, Part::eval, 1, 2)->description(), "; 4 of them for evaluation"));

  // The same wherever the folder lies; in the "train" of a folder that holds one.
  const TemporaryFolder other;
  fs::create_directory_symlink(folder.path(), other / "train");
  options.train = other.path();
  CHECK(files_of(Part::eval).size() == 4);
  options.train = other / "train";
  CHECK(files_of(Part::eval) == eval);

  // One of each class at least; what has one photo trains.
  options.split = 0.01;
  CHECK(files_of(Part::eval).size() == 2);
  options.split = 0.99;
  CHECK(files_of(Part::train).size() == 2);
  fs::create_directories(folder.path("c"));
  fs::copy_file(folder.path("a/8.JPEG"), folder.path("c/8.JPEG"));
  CHECK(open_dataset(options, Part::train, 1, 3)->size() == 3);
}

TEST_CASE("shards: every damage of a shard is named or harmless") {
  const TemporaryFolder folder;
  ShardIndex index{.records = {}, .names = std::string("a/1.png\0b/2.png\0", 16), .source_hash = 7};
  std::string content = shard_header();
  for (std::int32_t label = 0; label < 2; ++label) {
    const Bytes file = png_file({5, 4}, 3, picture({5, 4}, 3, static_cast<std::uint64_t>(label)));
    index.records.push_back({.offset = content.size(),
                             .checksum = hash_bytes(std::as_bytes(std::span(file))),
                             .bytes = static_cast<std::uint32_t>(file.size()),
                             .label = label});
    content.append(file.begin(), file.end());
  }
  content += shard_footer(index, content.size());
  const Bytes whole(content.begin(), content.end());
  const ShardManifest manifest{.classes = {"a", "b"}, .shards = {{"one.bin", 2}}};
  const std::string path = folder / "one.bin";
  write_file(path, whole);
  write_file(folder / kShardManifest, [&] {
    const std::string text = to_text(manifest);
    return Bytes(text.begin(), text.end());
  }());
  const ShardManifest read = read_shard_manifest(folder.path());
  CHECK(read.classes == manifest.classes);
  CHECK(read.shards.at(0).images == 2);
  CHECK(read_shard_index(path).source_hash == 7);
  Bytes file;
  const auto problems = [&] {
    const auto source = open_shards(folder.path(), manifest).source;
    std::string found;
    for (std::uint32_t image = 0; image < source->size(); ++image) found += source->fetch(image, file);
    return found;
  };
  CHECK(problems() == "");
  const auto is_noticed = [&] {
    try {
      return problems() != "";
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(contains(error.what(), path));
      return true;
    }
  };
  for (std::size_t at = 0; at < whole.size(); ++at) {
    Bytes damaged = whole;
    damaged[at] ^= 0x55;
    write_file(path, damaged);
    // The header's eight bytes are for people; the source_hash in the trailer is only compared by dcs3gd-data prepare.
    const bool matters = at >= 8 && (at < whole.size() - 16 || at >= whole.size() - 8);
    CHECK(is_noticed() == matters);
    if (at % 7 != 0) continue;
    write_file(path, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at)));
    CHECK(is_noticed());
  }
  write_file(path, whole);
  // Labels of the manifest's classes become the model's.
  const Photos photos = open_photos(folder.path(), PhotoForm::shards, {"b", "c", "a"});
  CHECK(photos.source->label(0) == 2);
  CHECK(photos.source->label(1) == 0);
  CHECK(photos.class_counts == std::vector<std::uint32_t>{1, 0, 1});
  CHECK(contains(input_error([&] { open_photos(folder.path(), PhotoForm::shards, {"a", "c"}); }), "/b: no class"));
  // Cut off after it was opened.
  const auto source = open_shards(folder.path(), manifest).source;
  fs::resize_file(path, 20);
  CHECK(contains(source->fetch(1, file), "the file has 20 bytes"));
}

TEST_CASE("photos: resampling by its definition") {
  // A crop of the size of its source changes nothing.
  const ImageSize size{37, 21};
  const Bytes rgb = picture(size, 3, 9);
  DecodedImage image;
  REQUIRE(decode_image(png_file(size, 3, rgb), CropRule::whole(), image) == "");
  Bytes planes(rgb.size());
  resample(image, 3, planes);
  for (std::size_t i = 0; i < planes.size() / 3; ++i) {
    for (std::size_t c = 0; c < 3; ++c) CHECK(planes[c * planes.size() / 3 + i] == rgb[3 * i + c]);
  }
  // One colour stays one colour at any size, in every part of the fixed-point sums.
  for (const int target : {1, 2, 7, 50, 300}) {
    DecodedImage plain;
    REQUIRE(decode_image(png_file({53, 31}, 1, Bytes(53 * 31, 201)), CropRule::center(target), plain) == "");
    Bytes scaled(static_cast<std::size_t>(target * target));
    resample(plain, 1, scaled);
    CHECK(std::ranges::all_of(scaled, [](std::uint8_t value) { return value == 201; }));
  }
}

TEST_CASE("crop: the middle for evaluation, parts of every kind for training") {
  CHECK(CropRule::center(224).crop({500, 375}) ==
        Crop{.source = {0, 0, 500, 375}, .scaled = {341, 256}, .window = {58, 16, 224, 224}});
  CHECK(CropRule::center(224).crop({300, 400}) ==
        Crop{.source = {0, 0, 300, 400}, .scaled = {256, 341}, .window = {16, 58, 224, 224}});
  CHECK(CropRule::within(100).crop({500, 375}).scaled == ImageSize{100, 75});
  CHECK(CropRule::within(100).crop({30, 3000}).window == Box{0, 0, 1, 100});
  CHECK(CropRule::within(100).crop({100, 80}) == CropRule::whole().crop({100, 80}));
  double smallest = 1;
  double largest = 0;
  for (std::uint64_t id = 0; id < 3000; ++id) {
    const CropRule crop_rule = CropRule::random_resized(224, RandomStream(1, RandomPurpose::test, id));
    const Crop crop = crop_rule.crop({500, 375});
    CHECK(crop == crop_rule.crop({500, 375}));
    const Box& box = crop.source;
    REQUIRE(box.x >= 0);
    REQUIRE(box.y >= 0);
    REQUIRE(box.x + box.width <= 500);
    REQUIRE(box.y + box.height <= 375);
    const double share = box.width * box.height / (500.0 * 375.0);
    const double ratio = static_cast<double>(box.width) / box.height;
    smallest = std::min(smallest, share);
    largest = std::max(largest, share);
    CHECK(ratio > 0.74);
    CHECK(ratio < 1.35);
  }
  CHECK(smallest < 0.09);
  CHECK(smallest > 0.078);
  CHECK(largest > 0.95);
  // Too long for any draw: the middle, as wide as allowed.
  const CropRule crop_rule = CropRule::random_resized(224, RandomStream(1, RandomPurpose::test));
  CHECK(crop_rule.crop({4000, 30}).source == Box{1980, 0, 40, 30});
  CHECK(crop_rule.crop({1, 1}).source == Box{0, 0, 1, 1});
}

TEST_CASE("colour jitter: factors 1 change nothing, 0 gives black, grey and means") {
  const ImageSize size{16, 9};
  const Bytes pixels = picture(size, 3, 10);
  const auto changed = [&](std::array<float, 3> factors) {
    Bytes copy = pixels;
    jitter_colors({.factors = factors}, 3, copy);
    return copy;
  };
  CHECK(changed({1, 1, 1}) == pixels);
  CHECK(changed({0, 1, 1}) == Bytes(pixels.size(), 0));
  const Bytes flat = changed({1, 0, 1});
  CHECK(std::ranges::all_of(flat, [&](std::uint8_t value) { return value == flat[0]; }));
  const Bytes grey = changed({1, 1, 0});
  const std::size_t plane = pixels.size() / 3;
  for (std::size_t i = 0; i < plane; ++i) CHECK((grey[i] == grey[plane + i] && grey[i] == grey[2 * plane + i]));
  RandomStream random(1, RandomPurpose::test);
  for (int draw = 0; draw < 100; ++draw) {
    const ColorChange change = draw_color_change(0.4F, random);
    for (const float factor : change.factors) CHECK((factor >= 0.6F && factor <= 1.4F));
  }
}

}  // namespace dcs3gd::data
