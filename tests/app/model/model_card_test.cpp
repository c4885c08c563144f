#include "app/model/model_card.h"

#include <string>

#include <doctest/doctest.h>

#include "app/model/safetensors.h"
#include "comm/thread_world.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::TemporaryFolder;

namespace {

ModelCard some_card() {
  Configuration configuration;
  configuration.model.name = "resnet8";
  configuration.model.classes = 3;
  configuration.model.zero_init_residual = true;
  configuration.data.channels = 1;
  configuration.data.normalize = {.mean = {0.1F}, .std = {0.3F}};
  ModelCard card = model_card(configuration);
  card.class_names = {"cat", "dog", "größer \"x\""};
  return card;
}

}  // namespace

TEST_CASE("a card read from a file of weights is the card that was written, and builds the same network") {
  const TemporaryFolder folder;
  const ModelCard card = some_card();
  const nn::Graph graph = build_graph(card);
  const ParameterArena weights(graph.parameter_layout());
  save_safetensors(folder / "m.safetensors", {&weights}, to_metadata(card));
  const std::optional<ModelCard> read = read_model_card(folder / "m.safetensors");
  REQUIRE(read);
  CHECK(*read == card);
  // For other programs: what is done to photos of any size.
  CHECK(test::contains(to_metadata(card).at("dcs3gd.card"), "\"image_size\":32,\"photo_resize\":32"));
  Configuration of_photos;
  of_photos.data.format = "image_folder";
  CHECK(model_card(of_photos).photo_resize == 37);
  const nn::Graph again = build_graph(*read);
  CHECK(again.shape(again.input()) == nn::ImageShape{1, 32, 32});
  REQUIRE(again.parameter_layout()->slices().size() == graph.parameter_layout()->slices().size());
  CHECK(again.parameter_layout()->element_count() == weights.values().size());
}

TEST_CASE("all ranks get rank 0's card, and its error; nobody else makes one") {
  comm::run_ranks_as_threads(3, {}, [](comm::Communicator& communicator) {
    const auto make = [&] {
      if (communicator.rank() > 0) throw Error(ErrorKind::failure, "made by another rank");
      return some_card();
    };
    CHECK(card_of_rank_0(communicator, make) == some_card());
    const auto fail = []() -> ModelCard { throw Error(ErrorKind::input, "no such network"); };
    CHECK_THROWS_WITH_AS(card_of_rank_0(communicator, fail), "no such network", Error);
  });
}

TEST_CASE("a file of another program has no card; a damaged card is refused by name") {
  const TemporaryFolder folder;
  const ParameterArena weights(build_graph(some_card()).parameter_layout());
  save_safetensors(folder / "other.safetensors", {&weights}, {{"format", "pt"}});
  CHECK_FALSE(read_model_card(folder / "other.safetensors"));
  for (const std::string damaged : {"", "{", "[]", R"({"name": 3})", R"({"name": "x", "network": "y"})"}) {
    CAPTURE(damaged);
    auto metadata = to_metadata(some_card());
    for (auto& [key, value] : metadata) {
      if (key != "format" && key != "model") value = damaged;
    }
    const Error error = test::error_of([&] { card_from(metadata, "m.safetensors"); });
    CHECK(error.kind() == ErrorKind::input);
    CHECK(test::contains(error.what(), "m.safetensors: the description of its model"));
  }
}

TEST_CASE("a card with a whole number that no type holds is damaged") {
  for (const std::string number : {"999999999999999999990", "4294967297", "1.5", "null"}) {
    CAPTURE(number);
    auto metadata = to_metadata(some_card());
    std::string& card = metadata.at("dcs3gd.card");
    const std::size_t at = card.find("\"classes\":") + 10;
    card.replace(at, card.find(',', at) - at, number);
    CHECK(test::contains(test::error_of([&] { card_from(metadata, "file"); }).what(), "is damaged: "));
  }
}

TEST_CASE("data are opened as the card says") {
  const data::DataOptions options = data_for(some_card(), {.image_size = 64, .channels = 3});
  CHECK(options.image_size == 32);
  CHECK(options.channels == 1);
  CHECK(options.normalize.mean == std::vector{0.1F});
}

TEST_CASE("without values of its own a configuration's card has those of the data's format") {
  Configuration configuration;
  configuration.data.format = "cifar10";
  const ModelCard card = model_card(configuration);
  CHECK(card.normalize.mean.size() == 3);
  CHECK(card.normalize.std.size() == 3);
}
