#include "data/photos/tar_shards.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include <sys/resource.h>

#include "data/photos/photo_list.h"
#include "data/photos/tar_reader.h"
#include "tests/data/data_test_support.h"
#include "tests/data/encoded_images.h"
#include "tests/data/tar_file.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

using Members = std::vector<Bytes>;

constexpr std::size_t kBlockBytes = 512;

Bytes photo(int number) { return png_file({5, 4}, 3, picture({5, 4}, 3, static_cast<std::uint64_t>(number))); }

/// Both files of a sample.
Bytes sample(const std::string& key, int number, int label) {
  Bytes both = tar_member(key + ".cls", std::to_string(label) + "\n");
  const Bytes image = tar_member(key + ".png", photo(number));
  both.insert(both.end(), image.begin(), image.end());
  return both;
}

std::vector<std::string> names_of(const TarSamples& samples) {
  std::vector<std::string> names;
  std::istringstream text(samples.index.names);
  for (std::string name; std::getline(text, name, '\0');) names.push_back(name);
  return names;
}

/// A folder with one tar file.
struct Tar {
  explicit Tar(const Bytes& content) { write_file(path, content); }
  explicit Tar(const Members& members) : Tar(tar_file(members)) {}

  TarSamples samples() const { return index_tar(PositionedFile(path)); }
  std::string refusal() const {
    const std::string message = input_error([&] { samples(); });
    CHECK(contains(message, path + ": at byte "));
    return message;
  }

  TemporaryFolder folder;
  std::string path = folder / "train-000.tar";
};

}  // namespace

TEST_CASE("tar: images with their labels, in the order of the file") {
  const Tar tar(Members{tar_member("a/", "", '5'), sample("a/one.two", 1, 7), tar_member("a/1.json", "{}"),
                        tar_member("a/1.JPG", "jpg"), tar_member("a/1.cls", " 3 "), tar_member("a/1.seg.png", "other"),
                        tar_member("a/link.png", "", '2'), tar_member("readme", "words"),
                        tar_member(".hidden.png", "words")});
  // The first sample's key ends at its first dot: "one", with the extensions "two.cls" and "two.png".
  CHECK(names_of(tar.samples()) == std::vector<std::string>{"a/1.JPG"});
  CHECK(tar.samples().ignored == 7);
  CHECK(dotted_labels_problem(tar.samples()).starts_with("1 labels such as 'a/one.two.cls' belong to no image"));
  CHECK(tar.samples().index.records.at(0).label == 3);

  const Tar two(Members{sample("b", 1, 4), sample("a", 2, 0)});
  const TarSamples samples = two.samples();
  REQUIRE(samples.index.records.size() == 2);
  CHECK(names_of(samples) == std::vector<std::string>{"b.png", "a.png"});
  CHECK(samples.index.records[0].offset == 3 * kBlockBytes);
  const TarPhotos photos = open_tars(two.folder.path());
  CHECK(photos.classes == 5);
  Bytes file;
  for (std::uint32_t image = 0; image < 2; ++image) {
    CHECK(photos.source->fetch(image, file) == "");
    CHECK(file == photo(static_cast<int>(image) + 1));
  }
  CHECK(photos.source->label(0) == 4);
  CHECK(photos.source->name(1) == two.path + ": a.png");
}

TEST_CASE("tar: the name of each of many images") {
  Members members;
  std::vector<std::string> expected;
  for (int image = 0; image < 200; ++image) {
    members.push_back(sample(std::to_string(image), image, 0));
    expected.push_back(std::to_string(image) + ".png");
  }
  const Tar tar(members);
  const TarPhotos photos = open_tars(tar.folder.path());
  std::vector<std::string> found;
  for (std::uint32_t image = 0; image < photos.source->size(); ++image) {
    found.push_back(photos.source->name(image).substr(tar.path.size() + 2));
  }
  CHECK(found == expected);
}

TEST_CASE("tar: photos without labels, whatever else is there") {
  const Tar tar(Members{tar_member("a/", "", '5'), tar_member("readme", "words"), tar_member("a/one.two.PNG", photo(1)),
                        tar_member("link.png", "", '2'), sample("b", 2, 4)});
  const std::vector<TarImage> images = images_in_tar(PositionedFile(tar.path));
  REQUIRE(images.size() == 2);
  CHECK(images[0].name == "a/one.two.PNG");
  CHECK(images[1].name == "b.png");
  const auto photos = list_photos({tar.path});
  REQUIRE(photos->size() == 2);
  CHECK(photos->name(0) == tar.path + "/a/one.two.PNG");
  Bytes file;
  for (const int number : {1, 2}) {
    CHECK(photos->fetch(static_cast<std::uint32_t>(number - 1), file) == "");
    CHECK(file == photo(number));
  }
  const Tar none(Members{tar_member("readme", "words")});
  CHECK(contains(input_error([&] { list_photos({none.path}); }), "no .jpg, .jpeg or .png files in it"));
}

TEST_CASE("tar: long names and sizes of GNU tar and pax") {
  const std::string deep = std::string(120, 'd') + "/" + std::string(60, 'k');
  const auto pax = [](const std::string& record) { return tar_member("x", record, 'x'); };
  const auto record = [](const std::string& text) {  // "LENGTH text\n" of 100 to 999 bytes
    return std::to_string(text.size() + 5) + " " + text + "\n";
  };
  const Bytes image = photo(1);
  Bytes large = tar_member("c.png", image);
  std::fill_n(large.begin() + 124, 12, 0);
  large[124] = 0x80;
  large[124 + 11] = static_cast<std::uint8_t>(image.size());
  set_tar_checksum(large);
  Bytes no_size = tar_member("d.png", image);
  std::fill_n(no_size.begin() + 124, 12, '7');
  set_tar_checksum(no_size);
  REQUIRE(image.size() < 256);

  const Tar tar(Members{
      tar_member("L", deep + ".cls" + '\0', 'L'), tar_member("cut", "1"), tar_member("L", deep + ".png" + '\0', 'L'),
      tar_member("cut", image), tar_member("g", "13 comment=x\n", 'g'), pax(record("path=" + deep + "2.cls")),
      tar_member("cut", "2"), pax(record("path=" + deep + "2.png")), tar_member("cut", image), tar_member("c.cls", "3"),
      large, tar_member("d.cls", "4"), pax("12 size=" + std::to_string(image.size()) + "\n"), no_size});
  const TarSamples samples = tar.samples();
  CHECK(names_of(samples) == std::vector<std::string>{deep + ".png", deep + "2.png", "c.png", "d.png"});
  for (std::size_t i = 0; i < samples.index.records.size(); ++i) {
    CHECK(samples.index.records[i].label == static_cast<std::int32_t>(i + 1));
    CHECK(samples.index.records[i].bytes == image.size());
  }
}

TEST_CASE("tar: what is no sample, or no tar file, is refused with its place") {
  CHECK(contains(Tar(Members{sample("a", 1, 0), tar_member("b.png", photo(1))}).refusal(), "'b' has no label"));
  CHECK(contains(Tar(Members{sample("a", 1, 0), tar_member("b.cls", "1")}).refusal(), "at byte 2048: the sample 'b'"));
  CHECK(contains(Tar(Members{sample("a", 1, 0), tar_member("a.jpg", "x")}).refusal(), "second image"));
  CHECK(contains(Tar(Members{sample("a", 1, 0), sample("a", 1, 0)}).refusal(), "second label"));
  for (const char* label : {"", "-1", "cat", "1 2", "1000000", "99999999999999999999999"}) {
    CHECK(contains(Tar(Members{tar_member("a.cls", label)}).refusal(), "expected a class number"));
  }
  CHECK(contains(Tar(Members{tar_member("a", "", 'S')}).refusal(), "sparse"));
  CHECK(contains(Tar(Members{tar_member("a", "30 GNU.sparse.major=1\n", 'x')}).refusal(), "damaged pax header"));
  CHECK(contains(Tar(Members{tar_member("a", "22 GNU.sparse.major=1\n", 'x')}).refusal(), "sparse"));
  CHECK(contains(Tar(Members{tar_member("a", "1 a=1\n", 'x')}).refusal(), "damaged pax header"));
  CHECK(contains(Tar(Bytes(2000, 'j')).refusal(), "at byte 0: expected a tar header"));
  Bytes negative = tar_member("a.png", "x");
  std::fill_n(negative.begin() + 124, 12, 0xFF);
  set_tar_checksum(negative);
  CHECK(contains(Tar(Members{negative}).refusal(), "no number"));
  const Tar none(Members{});
  CHECK(contains(input_error([&] { open_tars(none.folder.path()); }), "no images"));
}

TEST_CASE("tar: every truncation is refused, and every damage of a header") {
  const Bytes whole = tar_file({sample("a", 1, 0), sample("b", 2, 1)});
  const Tar tar(whole);
  for (std::size_t bytes = 0; bytes < whole.size() - kBlockBytes; bytes += 101) {
    write_file(tar.path, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)));
    CHECK(contains(tar.refusal(), "cut off"));
  }
  for (std::size_t at = 0; at < kBlockBytes; ++at) {
    Bytes damaged = whole;
    damaged[2 * kBlockBytes + at] ^= 0x15;
    write_file(tar.path, damaged);
    // The checksum's own field ends with a zero and a space, which say nothing.
    if (at < 154 || at > 155) CHECK(contains(tar.refusal(), "at byte 1024: expected a tar header"));
  }
  // Cut off while it is open: the image is bad, not the run.
  write_file(tar.path, whole);
  const TarPhotos photos = open_tars(tar.folder.path());
  fs::resize_file(tar.path, 4 * kBlockBytes);
  Bytes file;
  CHECK(contains(photos.source->fetch(1, file), "when the program started"));
}

TEST_CASE("tar: the index serves until its file changes") {
  const Tar tar(Members{sample("a", 1, 0), sample("b", 2, 1), tar_member("readme", "words")});
  TarSamples read;
  CHECK(read_tar_index(PositionedFile(tar.path), read) == "there is no index");
  const auto write_index = [&](const std::string& content) {
    write_file(tar_index_path(tar.path), Bytes(content.begin(), content.end()));
  };
  const TarPhotos walked = open_tars(tar.folder.path());
  const std::string index = tar_index_file(PositionedFile(tar.path), tar.samples());
  write_index(index);
  CHECK(read_tar_index(PositionedFile(tar.path), read) == "");
  CHECK(read.ignored == 1);
  CHECK(read.index.names == tar.samples().index.names);
  CHECK(open_tars(tar.folder.path()).checksums == walked.checksums);

  write_index(index.substr(0, index.size() - 1));
  CHECK(contains(read_tar_index(PositionedFile(tar.path), read), "make it anew with dcs3gd-data index"));
  CHECK(open_tars(tar.folder.path()).checksums == walked.checksums);

  write_index(index);
  fs::last_write_time(tar.path, fs::last_write_time(tar.path) + std::chrono::seconds(1));
  CHECK(contains(read_tar_index(PositionedFile(tar.path), read), "has changed"));
  write_file(tar.path, tar_file({sample("a", 1, 0)}));
  CHECK(contains(read_tar_index(PositionedFile(tar.path), read), "tar.index: a record of its index does not fit"));
  CHECK(open_tars(tar.folder.path()).source->size() == 1);
}

TEST_CASE("tar: a data set of both parts, with the labels of training") {
  const TemporaryFolder folder;
  for (const char* part : {"train", "val"}) fs::create_directory(folder / part);
  write_file(folder / "train/1.tar", tar_file({sample("a", 1, 2), sample("b", 2, 0)}));
  write_file(folder / "train/0.tar", tar_file({sample("c", 3, 1)}));
  write_file(folder / "val/0.tar", tar_file({sample("d", 4, 1)}));
  DataOptions options;
  options.format = "shards";
  options.train = options.eval = folder.path();
  const auto train = open_dataset(options, Part::train, 1, 10);
  CHECK(train->size() == 3);
  CHECK(contains(train->description(), "3 images of 3 classes (0 1, 1 1, 2 1) in 2 tar files"));
  std::int32_t label = -1;
  read_image(*train, 0, &label);
  CHECK(label == 1);
  CHECK(open_dataset(options, Part::eval, 1, 10)->size() == 1);
  // Classes that are known already are not looked for in the training part again.
  fs::rename(folder / "train/1.tar", folder / "train/1");
  CHECK(open_dataset(options, Part::eval, 1, 10, "", train->class_names())->class_names() == train->class_names());
  fs::rename(folder / "train/1", folder / "train/1.tar");
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 2); }), "found 3 classes"));
  write_file(folder / "val/0.tar", tar_file({sample("d", 4, 3)}));
  CHECK(contains(input_error([&] { open_dataset(options, Part::eval, 1, 10); }), "found the label 3, but the model"));
  options.format = "image_folder";
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 10); }), "set data.format: shards"));
}

TEST_CASE("tar: archives put together are read to the last; other words after the end are refused with their byte") {
  Bytes both = tar_file({sample("0", 1, 0)});
  both.resize(20 * kBlockBytes);  // as tar fills its last record
  const std::size_t second = both.size();
  const Bytes more = tar_file({sample("0", 2, 1), sample("1", 3, 1)});
  both.insert(both.end(), more.begin(), more.end());
  const Tar tar(both);
  CHECK(names_of(tar.samples()) == std::vector<std::string>{"0.png", "0.png", "1.png"});
  CHECK(open_tars(tar.folder.path()).classes == 2);

  Bytes cut = both;
  cut.resize(second + 100);
  CHECK(contains(Tar(cut).refusal(), "cut off"));
  Bytes junk = both;
  junk[second + 3] ^= 1;
  CHECK(contains(Tar(junk).refusal(), "at byte " + std::to_string(second) + ": expected a tar header"));
  Bytes zeros = both;
  zeros.resize(zeros.size() + 100);
  CHECK(Tar(zeros).samples().index.records.size() == 3);
}

TEST_CASE("tar: labels whose names have more dots than the rule allows are told apart from other files") {
  const TemporaryFolder folder;
  const auto dotted = [](const std::string& key) {
    Bytes both = tar_member(key + ".v2.cls", "1");
    const Bytes image = tar_member(key + ".v2.png", photo(1));
    both.insert(both.end(), image.begin(), image.end());
    return both;
  };
  write_file(folder / "a.tar", tar_file({sample("a", 1, 0), dotted("b"), sample("c", 1, 1), dotted("d")}));
  DataOptions options;
  options.format = "shards";
  options.train = options.eval = folder.path();
  const auto warned = [&] { return open_dataset(options, Part::train, 1, 10)->warning(); };
  CHECK(contains(warned(), "2 labels such as 'b.v2.cls' belong to no image: a name is split at its first dot"));
  const PositionedFile tar(folder / "a.tar");
  const std::string index = tar_index_file(tar, index_tar(tar));
  write_file(tar_index_path(tar.path()), Bytes(index.begin(), index.end()));
  CHECK(contains(warned(), "2 labels such as 'b.v2.cls'"));
  fs::remove(tar_index_path(tar.path()));
  write_file(folder / "a.tar", tar_file({dotted("b"), dotted("d")}));
  CHECK(contains(input_error(warned), "no images in 1 tar files: 2 labels such as 'b.v2.cls'"));
}

TEST_CASE("tar: a part is a folder, a file, a pattern or several of these, whatever lies beside the files") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "_meta");
  fs::create_directory(folder / "_meta/deep");
  for (int number = 0; number < 4; ++number) {
    write_file(folder / ("train-00" + std::to_string(number) + ".tar"),
               tar_file({sample("a", number, 0), sample("b", number, number % 2)}));
  }
  write_file(folder / "val-0.tar", tar_file({sample("v", 9, 1)}));
  DataOptions options;
  options.format = "shards";
  const auto size = [&](const std::string& path) {
    options.train = path;
    return open_dataset(options, Part::train, 1, 10)->size();
  };
  CHECK(size(folder.path()) == 9);
  CHECK(size(folder / "train-001.tar") == 2);
  CHECK(size(folder / "train-*.tar") == 8);
  CHECK(size(folder / "train-{000..002}.tar") == 6);
  CHECK(size(folder / "train-00{3,1}.tar") == 4);
  CHECK(size((folder / "train-001.tar").string() + "::" + (folder / "val-*").string()) == 3);
  {
    const ScopedVariable variable("DCS3GD_DATA", folder.path());
    CHECK(size("train-{000..001}.tar::val-0.tar") == 5);
  }
  CHECK(contains(input_error([&] { size(folder / "train-{003..005}.tar"); }), "train-004.tar: No such file"));
  CHECK(contains(input_error([&] { size(folder / "test-*.tar"); }), "nothing found"));
  CHECK(contains(input_error([&] { size(folder / "_meta"); }), "found neither shards.txt nor files NAME.tar"));

  options.train = options.eval = folder.path();
  const auto train = open_dataset(options, Part::train, 1, 10);
  CHECK(count_shared(*train, *open_dataset(options, Part::eval, 1, 10)) == 9);
  options.eval = folder / "val-0.tar";
  CHECK(count_shared(*train, *open_dataset(options, Part::eval, 1, 10)) == 1);
  options.train = folder / "train-*.tar";
  CHECK(count_shared(*open_dataset(options, Part::train, 1, 10), *open_dataset(options, Part::eval, 1, 10)) == 0);
}

TEST_CASE("tar: one machine reads the headers for all") {
  const TemporaryFolder folder;
  for (const char* name : {"0.tar", "1.tar", "2.tar"}) {
    write_file(folder / name, tar_file({sample("a", 1, 0), sample("b", 2, 1)}));
  }
  const PositionedFile indexed(folder / "1.tar");
  const std::string index = tar_index_file(indexed, index_tar(indexed));
  write_file(tar_index_path(indexed.path()), Bytes(index.begin(), index.end()));
  int members = 0;
  const std::string walked = walk_tars(folder.path(), [&] { ++members; });
  CHECK(members >= 8);
  CHECK(contains(walked, "0.tar"));
  CHECK(!contains(walked, "1.tar"));
  const TarPhotos photos = open_tars(folder.path(), walked);
  CHECK(photos.checksums == open_tars(folder.path()).checksums);
  Bytes file;
  CHECK(photos.source->fetch(5, file) == "");
  CHECK(file == photo(2));
  CHECK(photos.source->name(5) == (folder / "2.tar").string() + ": b.png");

  write_file(folder / "2.tar", tar_file({sample("a", 1, 0)}));
  CHECK(contains(input_error([&] { open_tars(folder.path(), walked); }), "let all hosts see the same files"));
  const auto cut = [&] { open_tars(folder.path(), std::string_view(walked).substr(0, walked.size() - 1)); };
  CHECK_THROWS_AS(cut(), Error);
}

TEST_CASE("tar: more files than a process may have open") {
  const TemporaryFolder folder;
  constexpr int kFiles = 90;
  for (int number = 0; number < kFiles; ++number) {
    write_file(folder / (std::to_string(100 + number) + ".tar"), tar_file({sample("a", number, number % 3)}));
  }
  rlimit saved{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &saved) == 0);
  const rlimit small{40, saved.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
  const TarPhotos photos = open_tars(folder.path());
  Bytes file;
  for (int round = 0; round < 2; ++round) {
    for (int number = 0; number < kFiles; ++number) {
      CHECK(photos.source->fetch(static_cast<std::uint32_t>(number), file) == "");
      CHECK(file == photo(number));
    }
  }
  std::vector<FileDescriptor> others;
  while (others.empty() || others.back().is_open()) others.emplace_back(folder / "100.tar", 0);
  std::string message;
  try {
    open_file(folder / "100.tar");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::failure);
    message = error.what();
  }
  others.clear();
  setrlimit(RLIMIT_NOFILE, &saved);
  CHECK(contains(message,
                 "100.tar: cannot be read: Too many open files; 40 may be open: raise the limit with ulimit -n"));
}

}  // namespace dcs3gd::data
