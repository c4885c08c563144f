#include "app/model/datasets.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "comm/thread_world.h"
#include "data/formats.h"
#include "data/photos/photo_dataset.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

namespace fs = std::filesystem;

/// An image folder whose files are no images: listing does not look into them.
class Photos {
 public:
  Photos() {
    for (const char* name : {"train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.png", "val/dog/7.jpg"}) write(name, 10);
  }

  void write(const std::string& name, std::size_t bytes) const {
    const fs::path path = folder_.path() / "photos" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << std::string(bytes, 'x');
  }
  fs::path path(const std::string& name) const { return folder_.path() / "photos" / name; }
  data::DataOptions options() const {
    data::DataOptions options;
    options.format = "image_folder";
    options.train = options.eval = (folder_.path() / "photos").string();
    return options;
  }
  /// Beside the photos; keeps everything at once.
  ListingCache cache() const {
    return {.folder = (folder_.path() / "cache/listings").string(), .min_bytes = 0, .min_age = std::chrono::seconds(0)};
  }
  /// The one file that the cache holds.
  fs::path kept() const {
    const std::vector<fs::path> files{fs::directory_iterator(cache().folder), fs::directory_iterator()};
    REQUIRE(files.size() == 1);
    return files.front();
  }

 private:
  test::TemporaryFolder folder_;
};

/// What every one of three ranks gets.
std::string shared(const data::DataOptions& options, const ListingCache& cache, data::Part part = data::Part::train) {
  std::vector<std::string> listings(3);
  comm::run_ranks_as_threads(3, {}, [&](comm::Communicator& communicator) {
    listings[static_cast<std::size_t>(communicator.rank())] = share_listing(options, part, {}, cache, communicator);
  });
  CHECK(listings[1] == listings[0]);
  CHECK(listings[2] == listings[0]);
  return listings[0];
}

std::string fingerprint(const data::DataOptions& options, const std::string& listing) {
  return data::open_dataset(options, data::Part::train, 1, 2, listing)->fingerprint();
}

}  // namespace

TEST_CASE("all ranks get the listing that rank 0 made, and it opens what listing anew would") {
  const Photos photos;
  const std::string listing = shared(photos.options(), {});
  CHECK_FALSE(listing.empty());
  CHECK(fingerprint(photos.options(), listing) == fingerprint(photos.options(), ""));
  const std::string eval = shared(photos.options(), {}, data::Part::eval);
  const auto dataset = data::open_dataset(photos.options(), data::Part::eval, 1, 2, eval);
  const auto anew = data::open_dataset(photos.options(), data::Part::eval, 1, 2);
  CHECK(dataset->size() == 1);
  CHECK(dataset->fingerprint() == anew->fingerprint());
  CHECK(dataset->description() == anew->description());
}

TEST_CASE("a folder that cannot be listed is told on all ranks; data that are not listed need no listing") {
  const Photos photos;
  fs::create_directory(photos.path("train/empty"));
  std::vector<std::string> messages(2);
  comm::run_ranks_as_threads(2, {}, [&](comm::Communicator& communicator) {
    const Error error =
        test::error_of([&] { share_listing(photos.options(), data::Part::train, {}, {}, communicator); });
    CHECK(error.kind() == ErrorKind::input);
    messages[static_cast<std::size_t>(communicator.rank())] = error.what();
  });
  CHECK(test::contains(messages[0], "train/empty: expected images"));
  CHECK(messages[1] == messages[0]);
  CHECK(shared({}, {}) == "");
}

TEST_CASE("a kept listing is used for as long as nobody adds, removes or renames files") {
  const Photos photos;
  const std::string first = shared(photos.options(), photos.cache());
  // What stands in the file is what is used.
  const data::FolderState state = data::files_state(photos.options(), data::Part::train, {});
  std::string marked = first;
  marked.replace(marked.find("2.jpg"), 5, "1.jpg");
  photos.cache().keep(state, marked);
  CHECK(shared(photos.options(), photos.cache()) == marked);

  const auto listed_anew = [&] {
    const std::string found = shared(photos.options(), photos.cache());
    CHECK(found == shared(photos.options(), {}));
    CHECK(found == photos.cache().find(data::files_state(photos.options(), data::Part::train, {})));
    return found;
  };
  photos.write("train/dog/2.png", 10);
  const std::string with_file = listed_anew();
  CHECK(with_file != marked);
  fs::rename(photos.path("train/dog/2.png"), photos.path("train/dog/3.png"));
  const std::string renamed = listed_anew();
  CHECK(renamed != with_file);
  fs::remove(photos.path("train/cat/1.jpg"));
  CHECK(listed_anew() != renamed);
  const fs::file_time_type before = fs::last_write_time(photos.path("train/dog"));
  photos.write("train/dog/4.png", 10);
  fs::last_write_time(photos.path("train/dog"), before);  // as tools that copy folders do
  CHECK(listed_anew() != renamed);
  photos.write("train/fox/1.jpg", 10);
  CHECK(listed_anew().find("fox") != std::string::npos);
}

TEST_CASE("a kept listing is dropped when the files at the ends of a class are not as listed") {
  const Photos photos;
  const std::string first = shared(photos.options(), photos.cache());
  photos.write("train/cat/2.jpg", 11);
  const std::string second = shared(photos.options(), photos.cache());
  CHECK(second != first);
  CHECK(second == shared(photos.options(), {}));
}

TEST_CASE("a damaged listing is made anew") {
  const Photos photos;
  const std::string listing = shared(photos.options(), photos.cache());
  const std::string whole = test::content_of(photos.kept());
  std::string flipped = whole;
  flipped[whole.size() - 8] = static_cast<char>(flipped[whole.size() - 8] ^ 1);
  for (const std::string& damaged :
       {flipped, whole.substr(0, whole.size() - 1), whole + "x", std::string(), std::string("a\nb")}) {
    CAPTURE(damaged.size());
    std::ofstream(photos.kept(), std::ios::binary) << damaged;
    CHECK(shared(photos.options(), photos.cache()) == listing);
    CHECK(test::content_of(photos.kept()) == whole);
  }
}

TEST_CASE("where nothing can be kept, listings are made anew and nothing fails") {
  const Photos photos;
  ListingCache cache = photos.cache();
  cache.folder = photos.path("train/cat/1.jpg").string() + "/below a file";
  const std::string listing = shared(photos.options(), cache);
  CHECK(listing == shared(photos.options(), {}));
}

TEST_CASE("a listing with folders within classes is not kept: their times are not watched") {
  const Photos photos;
  fs::create_directory(photos.path("train/cat/more"));
  shared(photos.options(), photos.cache());
  CHECK_FALSE(fs::exists(photos.cache().folder));
  photos.write("train/cat/more/3.jpg", 10);
  CHECK(shared(photos.options(), photos.cache()).find("cat/more/3.jpg") != std::string::npos);
}

TEST_CASE(
    "model.classes: auto is what the training data have, on all ranks; another data set's labels keep their meaning") {
  const Photos photos;
  photos.write("train/ant/1.jpg", 10);
  Configuration configuration;
  configuration.data = photos.options();
  configuration.model.classes = ModelConfiguration::kClassesOfData;
  comm::run_ranks_as_threads(2, {}, [&](comm::Communicator& communicator) {
    CHECK(count_classes(configuration, communicator).classes == 3);
    Configuration counted = configuration;
    counted.model.classes = 3;
    CHECK(count_classes(counted, communicator).classes == 3);
    const Datasets datasets = open_datasets(counted, communicator);
    CHECK(datasets.eval->class_names() == std::vector<std::string>{"ant", "cat", "dog"});
    // Names of a model: an evaluation folder with one class of them, no training data.
    data::DataOptions options = photos.options();
    options.train = "nowhere";
    options.eval = photos.path("val").string();
    const auto alone = open_dataset(options, data::Part::eval, 1, 4, communicator, {"dog", "eel", "cat", "ant"});
    CHECK(alone->size() == 1);
    CHECK(alone->class_names().front() == "dog");
    const Error unknown = test::error_of([&] {
      open_dataset(options, data::Part::eval, 1, 2, communicator, {"bird", "cat"});
    });
    CHECK(unknown.kind() == ErrorKind::input);
    CHECK(test::contains(unknown.what(), "val/dog: no class of this name among those"));
  });
}

TEST_CASE("what is short or has just changed is not kept") {
  const Photos photos;
  ListingCache cache = photos.cache();
  cache.min_age = std::chrono::hours(1);
  shared(photos.options(), cache);
  CHECK_FALSE(fs::exists(cache.folder));
  cache = photos.cache();
  cache.min_bytes = 10000;
  shared(photos.options(), cache);
  CHECK_FALSE(fs::exists(cache.folder));
}

TEST_CASE("another host's files are noticed") {
  const Photos photos;
  const std::string listing = shared(photos.options(), {});
  const Photos other;
  other.write("train/cat/2.jpg", 12);
  const auto problem = [&] { return data::listing_problem(other.options(), data::Part::train, listing); };
  CHECK(test::contains(problem(), "train/cat/2.jpg: 12 bytes, 10 when it was listed"));
  fs::remove(other.path("train/cat/2.jpg"));
  CHECK(test::contains(problem(), "train/cat/2.jpg"));
  other.write("train/fox/1.jpg", 1);
  CHECK(test::contains(problem(), "other classes than were listed"));
  for (const std::string& text : {listing.substr(0, listing.size() - 1), listing + '\0', std::string("1 a"),
                                  std::string("x\0", 2), listing + listing}) {
    const Error damaged = test::error_of([&] { fingerprint(photos.options(), text); });
    CHECK(test::contains(damaged.what(), "its listing is damaged"));
  }
}
