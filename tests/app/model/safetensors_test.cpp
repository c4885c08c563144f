#include "app/model/safetensors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/app/model/safetensors_test_support.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using namespace dcs3gd::test;

TEST_CASE("what is saved is loaded again, to the last bit") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  TinyModel model;
  model.number(0.1F);
  model.weights.values()[0] = std::numeric_limits<float>::denorm_min();
  model.weights.values()[1] = -std::numeric_limits<float>::max();
  model.weights.values()[2] = -0.0F;
  model.save(path);
  TinyModel loaded;
  loaded.load(path);
  CHECK(loaded == model);
  CHECK(std::signbit(loaded.weights.values()[2]));
}

TEST_CASE("a saved file has names, shapes, strings, and data aligned to 8 bytes") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const TinyModel model;
  save_safetensors(path, {&model.weights, &model.statistics}, {{"format", "pt"}, {"note", "a \"quoted\"\nline"}});
  const std::string content = test::content_of(path);
  const std::size_t data_bytes = (18 + 2 + 8 + 4 + 2 + 2) * sizeof(float);
  CHECK((content.size() - data_bytes) % 8 == 0);
  CHECK(content[content.size() - data_bytes - 1] == ' ');

  const SafetensorsFile file(path);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"note", "a \"quoted\"\nline"}});
  REQUIRE(file.entries().size() == 6);
  CHECK(file.entries()[0].name == "conv.weight");
  CHECK(file.entries()[0].dtype == "F32");
  CHECK(file.entries()[0].shape == Shape{2, 1, 3, 3});
  CHECK(file.entries()[5].name == "bn.running_var");
  CHECK(file.entries()[5].begin == data_bytes - 8);
}

TEST_CASE("PyTorch's batch counters are passed over") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  test::write_file(path, file_of("{" + tensor("bn.num_batches_tracked", "I64", "[]", 0, 8) + "," +
                                     tensor("bn.weight", "F32", "[2]", 8, 16) + "}",
                                 16));
  ParameterArena arena = make_arena({{"bn.weight", {2}}});
  arena.values()[0] = 7;
  load_safetensors(path, {&arena});
  CHECK(arena.values()[0] == 0);
}

TEST_CASE("a file of another model is refused with all differences, and nothing is loaded") {
  const TemporaryFolder folder;
  const std::string path = folder / "other.safetensors";
  test::write_file(
      path, file_of("{" + tensor("conv.weight", "F32", "[2,1,3,3]", 0, 72) + "," +
                        tensor("fc.weight", "F32", "[3,2]", 72, 96) + "," + tensor("fc.bias", "F16", "[4]", 96, 104) +
                        "," + tensor("head.weight", "F32", "[2]", 104, 112) + "}",
                    112));
  TinyModel model;
  model.number(1);
  TinyModel before;
  before.number(1);
  const Error error = test::error_of([&] { model.load(path, {"neck"}); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK(error.what() == path + R"( does not fit the model:
  missing in the file: "bn.weight" (F32 2)
  different: "fc.weight": file F32 3x2, model F32 4x2
  different: "fc.bias": file F16 4, model F32 4
  missing in the file: "bn.running_mean" (F32 2)
  missing in the file: "bn.running_var" (F32 2)
  not in the model: "head.weight" (F32 2)
  prefix to skip that stands for nothing: 'neck'
Use the weights of the same model (F32), or list modules that may differ in model.init_skip)");
  CHECK(model == before);
}

TEST_CASE("modules to skip are left as they are, whatever the file has for them") {
  const TemporaryFolder folder;
  const std::string path = folder / "other.safetensors";
  ParameterArena other = make_arena({{"conv.weight", {2, 1, 3, 3}},
                                     {"bn.weight", {2}},
                                     {"bn.running_mean", {2}},
                                     {"bn.running_var", {2}},
                                     {"fc.weight", {1000, 2}},
                                     {"fc.aux.weight", {5}},
                                     {"head.weight", {6}}});
  save_safetensors(path, {&other});
  for (const std::vector<std::string>& skipped : {std::vector<std::string>{"fc", "head"}, {"fc.", "head.weight"}}) {
    TinyModel model;
    model.number(1);
    model.load(path, skipped);
    CHECK(model.weights.slice(*model.weights.layout().find("conv.weight"))[0] == 0);
    CHECK(model.weights.slice(*model.weights.layout().find("fc.weight"))[0] == 21);
    CHECK(model.weights.slice(*model.weights.layout().find("fc.bias"))[3] == 32);
  }
  TinyModel model;
  CHECK(contains(test::error_of([&] { model.load(path, {"f", "fc", "head"}); }).what(), "'f'"));
  CHECK(contains(test::error_of([&] { model.load(path, {"", "fc", "head"}); }).what(), "''"));
}

TEST_CASE("NaN and Inf in a file are refused with the name of the tensor") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    TinyModel model;
    model.statistics.values()[3] = bad;
    model.save(path);
    TinyModel loaded;
    const Error error = test::error_of([&] { loaded.load(path); });
    CHECK(error.kind() == ErrorKind::input);
    CHECK_MESSAGE(contains(error.what(), "\"bn.running_var\" holds NaN or Inf"), error.what());
  }
}

TEST_CASE("a long list of differences is cut") {
  std::vector<ParameterSlice> slices;
  for (int i = 0; i < 100; ++i) slices.push_back({"layer" + std::to_string(i), {1}});
  ParameterArena arena = make_arena(slices);
  const TemporaryFolder folder;
  const std::string path = folder / "empty.safetensors";
  test::write_file(path, file_of("{}", 0));
  const std::string message = test::error_of([&] { load_safetensors(path, {&arena}); }).what();
  CHECK(contains(message, "layer19"));
  CHECK_FALSE(contains(message, "layer20"));
  CHECK(contains(message, "and 80 more"));
}

TEST_CASE("a model that cannot be written is a failure and leaves the old one") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  TinyModel old;
  old.number(1);
  old.save(path);
  std::filesystem::create_symlink("/dev/full", path + ".tmp");
  const Error error = test::error_of([&] { TinyModel().save(path); });
  CHECK(error.kind() == ErrorKind::failure);
  TinyModel loaded;
  loaded.load(path);
  CHECK(loaded == old);
}
