#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/model/safetensors.h"
#include "core/error.h"
#include "tests/app/model/safetensors_test_support.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using namespace dcs3gd::test;

namespace {

/// The input error with which these bytes are refused.
std::string refusal_of(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.safetensors";
  test::write_file(path, bytes);
  const Error error = test::error_of([&] { SafetensorsFile file(path); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK_MESSAGE(contains(error.what(), path), error.what());
  return error.what();
}

void check_refused(const std::string& header, std::size_t data_bytes, const std::string& reason) {
  const std::string message = refusal_of(file_of(header, data_bytes));
  CHECK_MESSAGE(contains(message, reason), header, " gave: ", message);
}

}  // namespace

TEST_CASE("a file cut off at any byte is refused") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  TinyModel model;
  model.number(1);
  model.save(path);
  const std::string whole = test::content_of(path);
  for (std::size_t size = 0; size < whole.size(); ++size) refusal_of(whole.substr(0, size));
  refusal_of(whole + '\0');
}

TEST_CASE("a header with any bit flipped is refused, or read as a file that is in itself sound") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  TinyModel model;
  model.number(1);
  model.save(path);
  const std::string whole = test::content_of(path);
  const std::size_t header_end = whole.find_last_of('}') + 1;
  std::size_t refused = 0;
  std::size_t accepted = 0;
  for (std::size_t bit = 0; bit < 8 * header_end; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    test::write_file(path, damaged);
    try {
      TinyModel loaded;
      loaded.load(path);
      ++accepted;
    } catch (const Error& error) {
      REQUIRE(error.kind() == ErrorKind::input);
      ++refused;
    }
  }
  // No flip keeps the names, the shapes, the types and the coverage.
  CHECK(accepted == 0);
  CHECK(refused == 8 * header_end);
}

TEST_CASE("header lengths that do not fit the file are refused before anything is allocated") {
  const std::uint64_t lengths[] = {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63, 100'000'001, 3};
  for (const std::uint64_t length : lengths) {
    CHECK(contains(refusal_of(bytes_of(length) + "{}"), "does not fit in the file"));
  }
  CHECK(contains(refusal_of(""), "too few"));
  CHECK(contains(refusal_of("1234567"), "too few"));
  const TemporaryFolder folder;
  CHECK(test::error_of([&] { SafetensorsFile file(folder / "missing"); }).kind() == ErrorKind::input);
}

TEST_CASE("headers that are not what the format says are refused") {
  const std::string good = tensor("a", "F32", "[1]", 0, 4);
  check_refused("", 0, "not a JSON object");
  check_refused("[]", 0, "not a JSON object");
  check_refused(" {}", 0, "not a JSON object");
  check_refused("{", 0, "not JSON");
  check_refused("{" + good + "} x", 4, "not JSON");
  check_refused("{" + good + ",}", 4, "not JSON");
  check_refused("{\"a\xff\":{}}", 0, "not JSON");
  check_refused(R"({"a":1})", 0, "expected an object");
  check_refused(R"({"a":[{}]})", 0, "expected an object");
  check_refused(R"({"a":null})", 0, "expected an object");
  check_refused(R"({"a":{}})", 0, "expected the keys");
  check_refused(R"({"a":{"dtype":"F32","shape":[0]}})", 0, "expected the keys");
  check_refused(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"more":1}})", 0, "expected the keys");
  check_refused(R"({"a":{"dtype":{"F32":1},"shape":[1],"data_offsets":[0,4]}})", 4, "expected an object");
  check_refused(R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", 4, "dtype is not a string");
  check_refused("{" + tensor("a", "F31", "[1]", 0, 4) + "}", 4, "unknown dtype \"F31\"");
  check_refused("{" + tensor("a", "f32", "[1]", 0, 4) + "}", 4, "unknown dtype");
  check_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "not a pair");
  check_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4, "not a pair");
  check_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "not a pair");
  for (const char* shape : {"1", "[-1]", "[1.0]", "[1e0]", "[\"1\"]", "[[1]]", "[null]", "[true]",
                            "[9223372036854775808]", "[18446744073709551616]", "{}"}) {
    const std::string message = refusal_of(file_of("{" + tensor("a", "F32", shape, 0, 4) + "}", 4));
    CHECK_MESSAGE((contains(message, "whole numbers") || contains(message, "expected an object")), message);
  }
  check_refused(R"({"__metadata__":{"a":1}})", 0, "not a string");
  check_refused(R"({"__metadata__":"a"})", 0, "expected an object");
}

TEST_CASE("names and keys that stand twice are refused") {
  const std::string good = tensor("a", "F32", "[1]", 0, 4);
  check_refused("{" + good + "," + good + "}", 4, "the name \"a\" stands twice");
  check_refused("{" + good + "," + tensor("\\u0061", "F32", "[1]", 4, 8) + "}", 8, "the name \"a\" stands twice");
  check_refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "key \"dtype\"");
  check_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "stands twice");
}

TEST_CASE("shapes whose size wraps around or does not match the data are refused") {
  check_refused("{" + tensor("a", "F32", "[4294967296,4294967296]", 0, 0) + "}", 0, "more elements than");
  check_refused("{" + tensor("a", "F32", "[4611686018427387904]", 0, 0) + "}", 0, "more elements than");
  check_refused("{" + tensor("a", "F64", "[2305843009213693953]", 0, 8) + "}", 8, "more elements than");
  check_refused("{" + tensor("a", "F32", "[2]", 0, 4) + "}", 4, "dtype and shape make 8 bytes, data_offsets 4");
  check_refused("{" + tensor("a", "F32", "[1000000000000]", 0, 4000000000000) + "}", 4,
                "describes 4000000000000 bytes");
}

TEST_CASE("data with overlaps, holes or ends that are not covered are refused") {
  const std::string a = tensor("a", "F32", "[2]", 0, 8);
  check_refused("{" + a + "," + tensor("b", "F32", "[2]", 4, 12) + "}", 12, "begin at byte 4, those before it end");
  check_refused("{" + a + "," + tensor("b", "F32", "[2]", 0, 8) + "}", 8, "begin at byte 0, those before it end at");
  check_refused("{" + a + "," + tensor("b", "F32", "[2]", 12, 20) + "}", 20, "begin at byte 12");
  check_refused("{" + tensor("b", "F32", "[2]", 4, 12) + "}", 12, "begin at byte 4, those before it end at byte 0");
  check_refused("{" + a + "}", 12, "describes 8 bytes of data, the file has 12");
  check_refused("{" + a + "}", 4, "describes 8 bytes of data, the file has 4");
  check_refused("{}", 1, "describes 0 bytes of data, the file has 1");
}

TEST_CASE("empty tensors, scalars, any order and trailing spaces are sound") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.safetensors";
  test::write_file(path, file_of("{" + tensor("b", "F32", "[]", 4, 8) + "," + tensor("empty", "F32", "[0,7]", 4, 4) +
                                     "," + tensor("a", "U8", "[4]", 0, 4) + "}   ",
                                 8));
  const SafetensorsFile file(path);
  REQUIRE(file.entries().size() == 3);
  CHECK(file.entries()[0].name == "a");
  CHECK(file.entries()[1].name == "empty");
  CHECK(file.entries()[2].name == "b");
}

TEST_CASE("hostile headers are refused quickly: depth, many tensors, many dimensions, long and odd names") {
  constexpr int kMany = 100'000;
  std::string deep = "{\"a\":";
  for (int i = 0; i < kMany; ++i) deep += "[";
  check_refused(deep, 0, "expected an object");
  std::string nested;
  for (int i = 0; i < kMany; ++i) nested += "{\"a\":";
  check_refused(nested, 0, "expected an object");

  std::string many = "{";
  for (int i = 0; i < kMany; ++i) many += tensor("t" + std::to_string(i), "F32", "[0]", 0, 0) + ",";
  many.back() = '}';
  const TemporaryFolder folder;
  const std::string path = folder / "many.safetensors";
  test::write_file(path, file_of(many, 0));
  TinyModel model;
  const std::string message = test::error_of([&] { model.load(path); }).what();
  CHECK(message.size() < 2'000);

  std::string dimensions = "[1";
  for (int i = 0; i < kMany; ++i) dimensions += ",1";
  check_refused("{" + tensor("a", "F32", dimensions + "]", 0, 4) + "}", 4, "an array of more than 64");

  std::string keys;
  for (int i = 0; i < kMany; ++i) keys += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + "\":\"\"";
  check_refused("{\"__metadata__\":{" + keys + "}}", 0, "more than 10000 keys");

  const std::string long_name = refusal_of(file_of("{\"" + std::string(kMany, 'n') + "\":{}}", 0));
  CHECK(long_name.size() < 1'000);
  check_refused("{\"new\\nline \\u001b[31m\":{}}", 0, R"("new?line ?[31m")");
}
