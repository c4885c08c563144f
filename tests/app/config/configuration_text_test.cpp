#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/config/configuration.h"
#include "core/error.h"
#include "tests/app/config/configuration_test_support.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd::app;
using namespace dcs3gd::test;
using dcs3gd::Error;

TEST_CASE("what is printed reads back as the same configuration") {
  for (const char* text : {"{}", kAllKeys}) {
    const Configuration original = parse(text);
    const std::string printed = to_yaml(original);
    const Configuration read = parse_configuration({.file_name = "other", .text = printed, .overrides = {}});
    CHECK(to_yaml(read) == printed);
    CHECK(to_lines(read) == to_lines(original));
  }
}

TEST_CASE("text is printed so that every YAML reader takes it for text") {
  const auto printed_name = [](const std::string& name) {
    Configuration c;
    c.run.name = name;
    const std::string yaml = plain(c);
    const std::size_t begin = yaml.find("name: ") + 6;
    CHECK(parse(yaml).run.name == name);
    return yaml.substr(begin, yaml.find('\n', begin) - begin);
  };
  CHECK(printed_name("resnet20-b128_x.1") == "resnet20-b128_x.1");
  for (const std::string name : {"2024", "1e3", "null", "Yes", "off", "~", "-",   "- a", "a: b", "a #b", "[a]", "*x",
                                 "&x",   "!x",  "'",    "\"",  "\\",  "%", "äöü", ".5",  "nan",  " a",   "a b"}) {
    CAPTURE(name);
    CHECK(printed_name(name).front() == '"');
  }
}

TEST_CASE("numbers are printed in the form that YAML 1.1 readers take for numbers too") {
  const Configuration c = parse("{optimizer: {weight_decay: 1e-05, lr: {power: 1e30, gamma: 5e-4}}}");
  CHECK(plain(c).find("weight_decay: 1.0e-05\n") != std::string::npos);
  CHECK(plain(c).find("power: 1.0e+30\n") != std::string::npos);
  CHECK(plain(c).find("gamma: 0.0005\n") != std::string::npos);
}

TEST_CASE("the hash tells configurations apart and never changes by itself") {
  CHECK(configuration_hash(parse("{}")) == "9101bb093d5d7e95");
  CHECK(configuration_hash(parse("run: {seed: 1}")) == configuration_hash(parse("{}")));
  CHECK(configuration_hash(parse("run: {seed: 2}")) != configuration_hash(parse("{}")));
}

TEST_CASE("configuration files are looked for as given, then in the folders") {
  const TemporaryFolder folder;
  const std::filesystem::path first = folder / "first";
  const std::filesystem::path second = folder / "second";
  std::filesystem::create_directories(first);
  std::filesystem::create_directories(second);
  for (const std::filesystem::path& file : {second / "run.yaml", second / "both.yaml", first / "both.yaml"}) {
    std::ofstream(file) << "{}";
  }
  const std::vector<std::filesystem::path> folders = {first, second};

  CHECK(find_configuration_file((second / "both.yaml").string(), folders) == second / "both.yaml");
  CHECK(find_configuration_file("both.yaml", folders) == first / "both.yaml");
  CHECK(find_configuration_file("run.yaml", folders) == second / "run.yaml");
  CHECK_THROWS_WITH_AS(find_configuration_file("none.yaml", folders),
                       ("--config none.yaml: no such file. Looked for none.yaml, " + (first / "none.yaml").string() +
                        ", " + (second / "none.yaml").string())
                           .c_str(),
                       Error);
}

TEST_CASE("a configuration file is read with its name; folders and large files are refused") {
  const TemporaryFolder folder;
  const std::string file = folder / "small.yaml";
  std::ofstream(file) << "run: {epochs: 3}\n";
  const ConfigurationSource source = read_configuration_file(file, {"run.seed=4"});
  CHECK(source.file_name == file);
  const Configuration c = parse_configuration(source);
  CHECK(c.run.name == "small");
  CHECK(c.run.epochs == 3);
  CHECK(c.run.seed == 4);

  CHECK_THROWS_WITH_AS(read_configuration_file(folder.path(), {}),
                       (folder.path().string() + ": expected a readable file with a configuration").c_str(), Error);
  const std::string large = folder / "large.yaml";
  std::ofstream(large) << std::string(3'000'000, '#');
  CHECK_THROWS_WITH_AS(parse_configuration(read_configuration_file(large, {})),
                       (large + ":1:1: larger than 1048576 bytes, which no configuration is").c_str(), Error);
}
