#include "data/dataset.h"

#include "data/paths.h"
#include "tests/data/data_test_support.h"

namespace dcs3gd::data {

TEST_CASE("paths: relative ones are looked for under DCS3GD_DATA if set, else in the current folder") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "cifar10");
  {
    const ScopedVariable variable("DCS3GD_DATA", folder.path());
    CHECK(resolve_data_path("cifar10") == folder / "cifar10");
    CHECK(resolve_data_path(resolve_data_path("cifar10")) == folder / "cifar10");
    CHECK(resolve_data_path(folder / "cifar10") == folder / "cifar10");
    const std::string message = input_error([] { resolve_data_path("imagenet"); });
    CHECK(contains(message, "'imagenet'"));
    CHECK(contains(message, folder / "imagenet"));
    CHECK(contains(message, "DCS3GD_DATA is '" + folder.path().string() + "'"));
  }
  for (const std::optional<std::string>& unset : {std::optional<std::string>(), std::optional<std::string>("")}) {
    const ScopedVariable variable("DCS3GD_DATA", unset);
    const std::string current = std::filesystem::current_path().string();
    CHECK(resolve_data_path(".").starts_with(current));
    const std::string message = input_error([] { resolve_data_path("no-such-data-set"); });
    CHECK(contains(message, current + "/no-such-data-set"));
    CHECK(contains(message, "DCS3GD_DATA is not set"));
    CHECK(contains(input_error([] { resolve_data_path("/no-such-data-set"); }), "set DCS3GD_DATA to the folder"));
  }
}

TEST_CASE("paths: a data set is opened through DCS3GD_DATA") {
  const TemporaryFolder folder;
  Bytes record(3073, 7);
  write_file(folder / "test_batch.bin", record);
  const ScopedVariable variable("DCS3GD_DATA", folder.path());
  DataOptions options;
  options.format = "cifar10";
  options.eval = "test_batch.bin";
  CHECK(open_dataset(options, Part::eval, 1, 10)->size() == 1);
  CHECK(contains(input_error([&] { open_dataset(options, Part::train, 1, 10); }), "data.train: expected the path"));
}

TEST_CASE("formats: the normalisation is the format's own where the configuration names none") {
  const auto own = [](const std::string& format, int channels) {
    return normalization_of({.format = format, .channels = channels});
  };
  CHECK(own("cifar10", 3).mean == std::vector{0.4914F, 0.4822F, 0.4465F});
  CHECK(own("cifar10", 3).std == std::vector{0.2470F, 0.2435F, 0.2616F});
  CHECK(own("cifar10", 1).mean == std::vector{0.5F});
  CHECK(own("cifar100", 3).mean == std::vector{0.5071F, 0.4865F, 0.4409F});
  CHECK(own("idx", 1).mean == std::vector{0.2860F});
  CHECK(own("idx", 3).std == std::vector{0.3530F, 0.3530F, 0.3530F});
  CHECK(own("image_folder", 3).mean == own("shards", 3).mean);
  CHECK(own("image_folder", 1).std == std::vector{0.25F});
  CHECK(own("synthetic", 3).std == std::vector{0.25F, 0.25F, 0.25F});
  const NormalizeOptions mixed =
      normalization_of({.format = "idx", .channels = 1, .normalize = {.mean = {0.1F}, .std = {}}});
  CHECK(mixed.mean == std::vector{0.1F});
  CHECK(mixed.std == std::vector{0.3530F});
}

TEST_CASE("options that cannot be opened") {
  const auto message = [](const DataOptions& options, int classes) {
    return input_error([&] { open_dataset(options, Part::train, 1, classes); });
  };
  DataOptions options;
  options.format = "tfrecord";
  CHECK(contains(message(options, 10), "there is no format 'tfrecord'"));
  options.format = "synthetic";
  CHECK(contains(message(options, 0), "model.classes"));
  options.channels = 2;
  CHECK(contains(message(options, 10), "data.channels: expected 1 or 3, found 2"));
  options.channels = 3;
  for (const int size : {-1, 0, 16385}) {
    options.image_size = size;
    CHECK(contains(message(options, 10), "data.image_size: expected 1 to 16384 pixels, found " + std::to_string(size)));
  }
}

TEST_CASE("fingerprints tell contents apart, not places") {
  const TemporaryFolder folder;
  Bytes record(3073, 7);
  write_file(folder / "first.bin", record);
  write_file(folder / "same.bin", record);
  record.back() = 8;
  write_file(folder / "other.bin", record);
  const auto fingerprint = [&](const std::string& name) {
    DataOptions options;
    options.format = "cifar10";
    options.eval = folder / name;
    return open_dataset(options, Part::eval, 1, 10)->fingerprint();
  };
  CHECK(fingerprint("same.bin") == fingerprint("first.bin"));
  CHECK(fingerprint("other.bin") != fingerprint("first.bin"));
}

}  // namespace dcs3gd::data
