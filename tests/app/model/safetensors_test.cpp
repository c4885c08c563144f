#include "app/model/safetensors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <utility>
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
                        tensor("fc.weight", "F32", "[3,2]", 72, 96) + "," + tensor("fc.bias", "I16", "[4]", 96, 104) +
                        "," + tensor("head.weight", "F32", "[2]", 104, 112) + "}",
                    112));
  TinyModel model;
  model.number(1);
  TinyModel before;
  before.number(1);
  const Error error = test::error_of([&] { model.load(path, {"neck"}); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK(error.what() == path + R"( does not fit the model:
  different: "fc.weight": file F32 3x2, model F32 4x2
  different: "fc.bias": file I16 4, model F32 4
  prefix to skip that stands for nothing: 'neck'
  missing in the file: "bn.weight" (F32 2)
  missing in the file: "bn.running_mean" (F32 2)
  missing in the file: "bn.running_var" (F32 2)
  not in the model: "head.weight" (F32 2)
Use the weights of the same model; for other classes set model.init_classifier: new, and list other modules that may differ in model.init_skip)");
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

TEST_CASE("floats of other types are read: the same numbers of F16 and BF16, the nearest of F64") {
  const TemporaryFolder folder;
  const std::string path = folder / "other.safetensors";
  const std::vector<std::uint16_t> halves{0x3E00, 0xC000, 0x0001, 0x7BFF, 0x0400, 0x8000};
  const std::vector<float> half_values{1.5F, -2.0F, 0x1p-24F, 65504.0F, 0x1p-14F, -0.0F};
  const std::vector<std::uint16_t> bf16{0x3FC0, 0xC000, 0x0001};
  const std::vector<float> bf16_values{1.5F, -2.0F, 0x1p-133F};
  std::string data;
  for (const std::uint16_t bits : halves) data += bytes_of(bits);
  for (const std::uint16_t bits : bf16) data += bytes_of(bits);
  for (const double value : {0.1, 1.5}) data += bytes_of(value);
  const std::string header = "{" + tensor("half", "F16", "[6]", 0, 12) + "," + tensor("brain", "BF16", "[3]", 12, 18) +
                             "," + tensor("double", "F64", "[2]", 18, 34) + "}";
  test::write_file(path, bytes_of(std::uint64_t{header.size()}) + header + data);
  ParameterArena arena = make_arena({{"half", {6}}, {"brain", {3}}, {"double", {2}}});
  load_safetensors(path, {&arena});
  const auto values = [&](const char* name) {
    const auto slice = arena.slice(*arena.layout().find(name));
    return std::vector<float>(slice.begin(), slice.end());
  };
  CHECK(values("half") == half_values);
  CHECK(std::signbit(values("half").back()));
  CHECK(values("brain") == bf16_values);
  CHECK(values("double") == std::vector<float>{0.1F, 1.5F});

  data.replace(0, 2, bytes_of(std::uint16_t{0x7C00}));  // Inf
  test::write_file(path, bytes_of(std::uint64_t{header.size()}) + header + data);
  CHECK(contains(test::error_of([&] { load_safetensors(path, {&arena}); }).what(), "\"half\" holds NaN or Inf"));
  data.replace(18, 8, bytes_of(1e300));  // Inf as a float
  test::write_file(path, bytes_of(std::uint64_t{header.size()}) + header + data);
  CHECK(contains(test::error_of([&] { load_safetensors(path, {&arena}); }).what(), "holds NaN or Inf"));
}

TEST_CASE("what wrappers put before all names is taken off, unless the model has it too") {
  const TemporaryFolder folder;
  const std::string path = folder / "wrapped.safetensors";
  for (const std::string prefix : {"module.", "model.", "model.module.", "_orig_mod.module."}) {
    ParameterArena wrapped = make_arena({{prefix + "fc.weight", {2}}, {prefix + "fc.bias", {1}}});
    wrapped.values()[0] = 3;
    save_safetensors(path, {&wrapped});
    ParameterArena arena = make_arena({{"fc.weight", {2}}, {"fc.bias", {1}}});
    load_safetensors(path, {&arena});
    CHECK(arena.values()[0] == 3);
    load_safetensors(path, {&arena}, {"fc"});
  }
  ParameterArena own = make_arena({{"model.weight", {2}}});
  own.values()[1] = 5;
  save_safetensors(path, {&own});
  ParameterArena arena = make_arena({{"model.weight", {2}}});
  load_safetensors(path, {&arena});
  CHECK(arena.values()[1] == 5);
  // On one name only it is the name.
  ParameterArena mixed = make_arena({{"module.weight", {2}}, {"bias", {1}}});
  save_safetensors(path, {&mixed});
  ParameterArena plain = make_arena({{"weight", {2}}, {"bias", {1}}});
  const std::string message = test::error_of([&] { load_safetensors(path, {&plain}); }).what();
  CHECK(contains(message, "missing in the file: \"weight\""));
  CHECK(contains(message, "not in the model: \"module.weight\""));
}

TEST_CASE("PyTorch's own files are told from damaged ones") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.pth";
  ParameterArena arena = make_arena({{"w", {1}}});
  const std::pair<std::string, const char*> files[] = {
      {std::string("PK\x03\x04\0\0\x08\x08 archive", 16),
       "convert it with scripts/convert_weights.py (installed: dcs3gd-convert-weights)"},
      {std::string("\x80\x02\x8a\nl\xfc\x9c\x46\xf9", 9), "PyTorch's form before version 1.6"}};
  for (const auto& [begin, advice] : files) {
    test::write_file(path, begin);
    CHECK(contains(test::error_of([&] { load_safetensors(path, {&arena}); }).what(), advice));
  }
}

TEST_CASE("a long list of differences is cut, and both sides are shown") {
  std::vector<ParameterSlice> slices;
  for (int i = 0; i < 100; ++i) slices.push_back({"layer" + std::to_string(i), {1}});
  ParameterArena arena = make_arena(slices);
  const TemporaryFolder folder;
  const std::string path = folder / "empty.safetensors";
  test::write_file(path, file_of("{" + tensor("block.0", "F32", "[1]", 0, 4) + "}", 4));
  const std::string message = test::error_of([&] { load_safetensors(path, {&arena}); }).what();
  CHECK(contains(message, "layer9\""));
  CHECK_FALSE(contains(message, "layer10\""));
  CHECK(contains(message, "and 90 more"));
  CHECK(contains(message, "not in the model: \"block.0\""));
}

TEST_CASE("a model that cannot be written is a failure and leaves the old one") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  TinyModel old;
  old.number(1);
  old.save(path);
  const Error error = test::error_of([&] {
    const test::FileSizeLimit limit(100);
    TinyModel().save(path);
  });
  CHECK(error.kind() == ErrorKind::failure);
  TinyModel loaded;
  loaded.load(path);
  CHECK(loaded == old);
}
