#include "tests/data/data_test_support.h"
#include "tests/data/encoded_images.h"

namespace dcs3gd::data {
namespace {

constexpr std::size_t kCifarPixels = 3072;

DataOptions options_for(const std::string& format, const std::string& path, int image_size, int channels) {
  DataOptions options;
  options.format = format;
  options.train = path;
  options.eval = path;
  options.image_size = image_size;
  options.channels = channels;
  return options;
}

std::shared_ptr<const Dataset> open_cifar(const std::string& format, const std::string& path, Part part = Part::train,
                                          int classes = 100) {
  return open_dataset(options_for(format, path, 32, 3), part, 1, classes);
}

/// A byte that differs between records, planes, rows and columns.
std::uint8_t cifar_pixel(std::size_t record, std::size_t position) {
  return static_cast<std::uint8_t>(record * 31 + position * 7 + position / 1024 * 50 + position / 32);
}

/// One record after the other, each with these label bytes in front.
Bytes cifar_file(const std::vector<Bytes>& labels) {
  Bytes bytes;
  for (std::size_t record = 0; record < labels.size(); ++record) {
    bytes.insert(bytes.end(), labels[record].begin(), labels[record].end());
    for (std::size_t i = 0; i < kCifarPixels; ++i) bytes.push_back(cifar_pixel(record, i));
  }
  return bytes;
}

void append_u32(Bytes& bytes, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

Bytes idx_header(std::uint32_t magic, const std::vector<std::uint32_t>& dims) {
  Bytes bytes;
  append_u32(bytes, magic);
  for (const std::uint32_t dim : dims) append_u32(bytes, dim);
  return bytes;
}

/// `count` images of height × width with the bytes 1, 2, 3, …
Bytes idx_images(std::uint32_t count, std::uint32_t height, std::uint32_t width) {
  Bytes bytes = idx_header(2051, {count, height, width});
  for (std::uint32_t i = 0; i < count * height * width; ++i) bytes.push_back(static_cast<std::uint8_t>(i + 1));
  return bytes;
}

Bytes idx_labels(const Bytes& labels) {
  Bytes bytes = idx_header(2049, {static_cast<std::uint32_t>(labels.size())});
  bytes.insert(bytes.end(), labels.begin(), labels.end());
  return bytes;
}

/// A folder with a pair of IDX files, to be damaged by tests.
struct IdxPair {
  TemporaryFolder folder;
  std::string images = folder / "train-images-idx3-ubyte";
  std::string labels = folder / "train-labels-idx1-ubyte";

  IdxPair() {
    write_file(images, idx_images(3, 2, 2));
    write_file(labels, idx_labels({4, 0, 2}));
  }
  std::shared_ptr<const Dataset> open(int image_size = 2, int channels = 1, int classes = 5) const {
    return open_dataset(options_for("idx", folder.path(), image_size, channels), Part::train, 1, classes);
  }
  std::string error() const {
    return input_error([this] { open(); });
  }
};

}  // namespace

TEST_CASE("cifar10: records are a label and three planes") {
  const TemporaryFolder folder;
  const std::string path = folder / "some.bin";
  write_file(path, cifar_file({{3}, {9}, {0}}));
  const auto dataset = open_cifar("cifar10", path, Part::train, 10);
  REQUIRE(dataset->size() == 3);
  CHECK(dataset->channels() == 3);
  CHECK(dataset->height() == 32);
  CHECK(dataset->width() == 32);
  CHECK(dataset->classes() == 10);
  CHECK(contains(dataset->description(), path));
  const std::vector<std::int32_t> labels{3, 9, 0};
  for (std::uint32_t record = 0; record < 3; ++record) {
    std::int32_t label = -1;
    const Bytes pixels = read_image(*dataset, record, &label);
    CHECK(label == labels[record]);
    bool equal = true;
    for (std::size_t i = 0; i < kCifarPixels; ++i) equal = equal && pixels[i] == cifar_pixel(record, i);
    CHECK(equal);
  }
}

TEST_CASE("cifar100: the fine label is the second byte") {
  const TemporaryFolder folder;
  write_file(folder / "train.bin", cifar_file({{19, 99}, {0, 7}}));
  write_file(folder / "test.bin", cifar_file({{5, 42}}));
  const auto train = open_cifar("cifar100", folder.path());
  const auto eval = open_cifar("cifar100", folder.path(), Part::eval);
  REQUIRE(train->size() == 2);
  REQUIRE(eval->size() == 1);
  std::int32_t label = -1;
  CHECK(read_image(*train, 1, &label)[1] == cifar_pixel(1, 1));
  CHECK(label == 7);
  read_image(*train, 0, &label);
  CHECK(label == 99);
  read_image(*eval, 0, &label);
  CHECK(label == 42);

  SUBCASE("a coarse label that cannot be is refused") {
    write_file(folder / "train.bin", cifar_file({{19, 99}, {20, 7}}));
    const std::string message = input_error([&] { open_cifar("cifar100", folder.path()); });
    CHECK(contains(message, "train.bin: record 1: expected a label from 0 to 19, found 20"));
  }
}

TEST_CASE("cifar10: a folder holds five training files and one for evaluation") {
  const TemporaryFolder folder;
  for (std::uint8_t file = 1; file <= 5; ++file) {
    write_file(folder / ("data_batch_" + std::to_string(file) + ".bin"), cifar_file({{file}, {0}}));
  }
  write_file(folder / "test_batch.bin", cifar_file({{8}}));
  const auto train = open_cifar("cifar10", folder.path());
  REQUIRE(train->size() == 10);
  for (std::uint32_t file = 0; file < 5; ++file) {
    std::int32_t label = -1;
    CHECK(read_image(*train, 2 * file + 1, &label)[0] == cifar_pixel(1, 0));
    CHECK(label == 0);
    read_image(*train, 2 * file, &label);
    CHECK(label == static_cast<std::int32_t>(file + 1));
  }
  CHECK(open_cifar("cifar10", folder.path(), Part::eval)->size() == 1);

  std::filesystem::remove(folder / "data_batch_4.bin");
  CHECK(contains(input_error([&] { open_cifar("cifar10", folder.path()); }), "data_batch_4.bin: expected a file"));
}

TEST_CASE("cifar: a label out of range names file and record") {
  const TemporaryFolder folder;
  const std::string path = folder / "batch.bin";
  write_file(path, cifar_file({{1}, {2}, {9}}));
  const std::string message = input_error([&] { open_cifar("cifar10", path, Part::train, 9); });
  CHECK(contains(message, path + ": record 2: expected a label from 0 to 8, found 9"));
  CHECK(contains(message, "model.classes"));
  // A model with more classes does not make a damaged file valid.
  write_file(path, cifar_file({{10}}));
  CHECK(contains(input_error([&] { open_cifar("cifar10", path); }), "record 0: expected a label from 0 to 9"));
}

TEST_CASE("cifar: every truncation is refused, whole records are not") {
  const TemporaryFolder folder;
  const std::string path = folder / "batch.bin";
  for (const auto& [format, labels] : {std::pair{"cifar10", Bytes{1}}, std::pair{"cifar100", Bytes{1, 1}}}) {
    const Bytes whole = cifar_file({labels, labels});
    write_file(path, whole);
    CHECK(open_cifar(format, path)->size() == 2);
    for (std::size_t length = whole.size() - 1; length > 0; --length) {
      std::filesystem::resize_file(path, length);
      if (length == whole.size() / 2) {
        CHECK(open_cifar(format, path)->size() == 1);
      } else {
        REQUIRE(contains(input_error([&, kind = format] { open_cifar(kind, path); }), "truncated"));
      }
    }
    write_file(path, {});
    CHECK(contains(input_error([&, kind = format] { open_cifar(kind, path); }), "found 0 bytes"));
  }
}

TEST_CASE("cifar: other files are refused") {
  const TemporaryFolder folder;
  const std::string path = folder / "batch.bin";
  write_file(path, gzip(cifar_file({{1}})));
  CHECK(contains(input_error([&] { open_cifar("cifar10", path); }), "unpack"));
  CHECK(contains(input_error([&] { open_cifar("cifar10", folder / "nowhere.bin"); }), "nothing found at"));
  write_file(path, cifar_file({{1}}));
  DataOptions options = options_for("cifar10", path, 32, 1);
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 10); }), "set data.channels: 3"));
  options = options_for("cifar10", path, 28, 3);
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 10); }), "set data.image_size: 32"));
}

TEST_CASE("idx: images and labels") {
  const IdxPair pair;
  const auto dataset = pair.open();
  REQUIRE(dataset->size() == 3);
  CHECK(dataset->channels() == 1);
  std::int32_t label = -1;
  CHECK(read_image(*dataset, 0, &label) == Bytes{1, 2, 3, 4});
  CHECK(label == 4);
  CHECK(read_image(*dataset, 2, &label) == Bytes{9, 10, 11, 12});
  CHECK(label == 2);
}

TEST_CASE("idx: smaller images stand in the middle of a black square") {
  const IdxPair pair;
  CHECK(read_image(*pair.open(4), 1) == Bytes{0, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 0, 0, 0});
  CHECK(read_image(*pair.open(3), 0) == Bytes{1, 2, 0, 3, 4, 0, 0, 0, 0});  // the odd pixel goes right and below
  CHECK(contains(pair.open(4)->description(), "zero-padded to 4x4"));
  write_file(pair.images, idx_images(3, 1, 2));
  CHECK(read_image(*pair.open(3), 1) == Bytes{0, 0, 0, 3, 4, 0, 0, 0, 0});
  CHECK(contains(input_error([&] { pair.open(1); }), "set data.image_size: 2"));
  CHECK(contains(input_error([&] { pair.open(2, 3); }), "set data.channels: 1"));
}

TEST_CASE("idx: where the files are found") {
  const IdxPair pair;
  const auto open = [](const std::string& path, Part part) {
    return open_dataset(options_for("idx", path, 2, 1), part, 1, 5);
  };
  SUBCASE("an images file; the labels lie beside it") { CHECK(open(pair.images, Part::eval)->size() == 3); }
  SUBCASE("evaluation files in the folder") {
    write_file(pair.folder / "t10k-images-idx3-ubyte.gz", gzip(idx_images(1, 2, 2)));
    write_file(pair.folder / "t10k-labels-idx1-ubyte", idx_labels({1}));
    CHECK(open(pair.folder.path(), Part::eval)->size() == 1);
    CHECK(open(pair.folder / "t10k-images-idx3-ubyte.gz", Part::train)->size() == 1);
  }
  SUBCASE("none for evaluation") {
    CHECK(contains(input_error([&] { open(pair.folder.path(), Part::eval); }),
                   "t10k-images-idx3-ubyte.gz, found neither"));
  }
  SUBCASE("no labels") {
    std::filesystem::remove(pair.labels);
    CHECK(contains(pair.error(), "train-labels-idx1-ubyte.gz, found neither"));
    CHECK(contains(input_error([&] { open(pair.images, Part::train); }), "train-labels-idx1-ubyte.gz, found neither"));
  }
  SUBCASE("a name that says nothing about the labels") {
    write_file(pair.folder / "digits", idx_images(1, 2, 2));
    CHECK(contains(input_error([&] { open(pair.folder / "digits", Part::train); }), "contains 'images-idx3'"));
  }
  SUBCASE("a folder under the name of a file") {
    std::filesystem::remove(pair.images);
    std::filesystem::create_directory(pair.images);
    CHECK(contains(pair.error(), "expected a file, found something else"));
  }
}

TEST_CASE("idx: gzip and plain files give the same") {
  const IdxPair pair;
  write_file(pair.images, idx_images(3, 28, 28));
  const auto plain = pair.open(28);
  write_file(pair.images + ".gz", gzip(idx_images(3, 28, 28)));
  write_file(pair.labels + ".gz", gzip(idx_labels({4, 0, 2})));
  std::filesystem::remove(pair.images);
  std::filesystem::remove(pair.labels);
  const auto compressed = pair.open(28);
  REQUIRE(compressed->size() == plain->size());
  for (std::uint32_t index = 0; index < plain->size(); ++index) {
    std::int32_t plain_label = -1;
    std::int32_t compressed_label = -2;
    CHECK(read_image(*plain, index, &plain_label) == read_image(*compressed, index, &compressed_label));
    CHECK(plain_label == compressed_label);
  }
}

TEST_CASE("idx: every truncation and every addition is refused, plain and gzip") {
  const IdxPair pair;
  for (const bool compress : {false, true}) {
    for (const std::string& path : {pair.images, pair.labels}) {
      const Bytes content = path == pair.images ? idx_images(3, 2, 2) : idx_labels({4, 0, 2});
      Bytes longer = content;
      longer.push_back(0);
      const Bytes whole = compress ? gzip(content) : content;
      for (std::size_t length = 0; length < whole.size(); ++length) {
        CAPTURE(length);
        write_file(path, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
        REQUIRE(contains(pair.error(), path + ": at byte "));
      }
      write_file(path, compress ? gzip(longer) : longer);
      CHECK(contains(pair.error(), "expected the end of the file"));
      write_file(path, whole);
      CHECK(pair.open()->size() == 3);
    }
  }
}

TEST_CASE("idx: gzip data with any damaged byte is refused") {
  const IdxPair pair;
  constexpr std::size_t kHeaderBytes = 10;  // hold bytes without meaning, such as the time
  constexpr std::size_t kTrailerBytes = 8;  // checksum and length
  const Bytes whole = gzip(idx_images(3, 2, 2));
  const std::size_t padded_byte = whole.size() - kTrailerBytes - 1;  // the last of the data: some bits only fill it up
  for (std::size_t position = kHeaderBytes; position < whole.size(); ++position) {
    for (const int bit : {0, 3, 7}) {
      if (position == padded_byte) continue;
      CAPTURE(position);
      Bytes damaged = whole;
      damaged[position] = static_cast<std::uint8_t>(damaged[position] ^ 1 << bit);
      write_file(pair.images, damaged);
      REQUIRE(contains(pair.error(), pair.images));
    }
  }
  write_file(pair.images, {0x1f, 0x8b, 'g', 'a', 'r', 'b', 'a', 'g', 'e'});
  CHECK(contains(pair.error(), pair.images));
}

TEST_CASE("idx: wrong magic numbers") {
  const IdxPair pair;
  SUBCASE("images and labels swapped") {
    write_file(pair.images, idx_labels({4, 0, 2}));
    CHECK(contains(pair.error(), pair.images + ": at byte 0: expected the magic number 2051, found 2049"));
  }
  SUBCASE("labels") {
    write_file(pair.labels, idx_images(3, 2, 2));
    CHECK(contains(pair.error(), pair.labels + ": at byte 0: expected the magic number 2049, found 2051"));
  }
  SUBCASE("little endian") {
    write_file(pair.images, idx_header(0x03080000, {3, 2, 2}));
    CHECK(contains(pair.error(), "expected the magic number 2051"));
  }
}

TEST_CASE("idx: sizes that do not fit are refused before anything is allocated") {
  const IdxPair pair;
  constexpr std::uint32_t kMax = 0xFFFFFFFF;
  const std::vector<std::vector<std::uint32_t>> claims{
      {kMax, kMax, kMax}, {0x80000000, 0x80000000, 4},  // the product is 2^64
      {kMax, 1, 1},       {1, kMax, 1},
      {3, 2, 3},          {4, 2, 2},
  };
  for (const std::vector<std::uint32_t>& dims : claims) {
    CAPTURE(dims[0]);
    Bytes images = idx_header(2051, dims);
    images.resize(images.size() + 12);
    write_file(pair.images, images);
    CHECK(contains(pair.error(), pair.images + ": at byte 16: the header claims"));
    write_file(pair.images, gzip(images));
    CHECK(contains(pair.error(), pair.images + ": at byte 16: "));
  }
  for (const std::vector<std::uint32_t>& dims :
       std::vector<std::vector<std::uint32_t>>{{0, 2, 2}, {3, 0, 2}, {3, 2, 0}}) {
    write_file(pair.images, idx_header(2051, dims));
    CHECK(contains(pair.error(), "expected at least one image of at least one pixel"));
  }
  write_file(pair.images, idx_images(3, 2, 2));
  write_file(pair.labels, idx_header(2049, {kMax}));
  CHECK(contains(pair.error(), pair.labels + ": at byte 8: the header claims 4294967295 bytes of labels"));
}

TEST_CASE("idx: labels that do not belong to the images") {
  const IdxPair pair;
  SUBCASE("another number of them") {
    write_file(pair.labels, idx_labels({4, 0}));
    CHECK(contains(pair.error(), "expected 3 labels, one for each image of " + pair.images + ", found 2"));
  }
  SUBCASE("out of range") {
    write_file(pair.labels, idx_labels({4, 5, 2}));
    CHECK(contains(pair.error(), pair.labels + ": record 1: expected a label from 0 to 4, found 5"));
  }
}

}  // namespace dcs3gd::data
