#include "core/parameter_arena.h"

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"

using namespace dcs3gd;

namespace {

std::shared_ptr<const ParameterLayout> small_layout() {
  return std::make_shared<const ParameterLayout>(std::vector<ParameterSlice>{
      {.name = "conv1.weight", .shape = {8, 3, 3, 3}, .kind = ParameterKind::weight},
      {.name = "bn1.weight", .shape = {8}, .kind = ParameterKind::norm},
      {.name = "fc.weight", .shape = {10, 8}, .kind = ParameterKind::weight},
      {.name = "fc.bias", .shape = {10}, .kind = ParameterKind::bias},
  });
}

}  // namespace

TEST_CASE("a layout lays its slices end to end in the given order") {
  const auto layout = small_layout();
  const std::size_t offsets[] = {0, 216, 224, 304};
  const std::size_t counts[] = {216, 8, 80, 10};
  REQUIRE(layout->slices().size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(layout->slices()[i].name);
    CHECK(layout->slices()[i].offset == offsets[i]);
    CHECK(layout->slices()[i].count == counts[i]);
  }
  CHECK(layout->element_count() == 314);
}

TEST_CASE("slices are found by their whole name") {
  const auto layout = small_layout();
  REQUIRE(layout->find("fc.weight") != nullptr);
  CHECK(layout->find("fc.weight")->offset == 224);
  CHECK(layout->find("fc.weight")->shape == Shape{10, 8});
  CHECK(layout->find("fc") == nullptr);
  CHECK(layout->find("") == nullptr);
}

TEST_CASE("a name that stands twice is refused and named") {
  const std::vector<ParameterSlice> slices{{.name = "fc.bias", .shape = {4}}, {.name = "fc.bias", .shape = {5}}};
  try {
    const ParameterLayout layout(slices);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::failure);
    CHECK(error.exit_code() == 1);
    CHECK(std::string(error.what()).find("'fc.bias'") != std::string::npos);
  }
}

TEST_CASE("an arena is one zeroed flat array, its slices are windows into it") {
  ParameterArena arena(small_layout());
  REQUIRE(arena.values().size() == 314);
  for (const float value : arena.values()) CHECK(value == 0);
  const ParameterSlice& bias = *arena.layout().find("fc.bias");
  arena.slice(bias)[9] = 3;
  CHECK(arena.values()[313] == 3);
  CHECK(arena.slice(bias).size() == 10);
}

TEST_CASE("twins share the layout but not the values") {
  const auto layout = small_layout();
  ParameterArena weights(layout);
  const ParameterArena twin(weights.shared_layout());
  weights.values()[0] = 1;
  CHECK(&weights.layout() == &twin.layout());
  CHECK(twin.values()[0] == 0);
}

TEST_CASE("frozen slices and the others are two layouts, whose tensors are copied by name") {
  std::vector<ParameterSlice> slices = small_layout()->slices();
  slices[1].is_frozen = true;
  slices[2].rate_factor = 3;
  const ParameterLayout all(slices);
  ParameterArena trained(all.part(false));
  ParameterArena frozen(all.part(true));
  CHECK(frozen.layout().slices().size() == 1);
  CHECK(frozen.layout().slices()[0].name == slices[1].name);
  CHECK(frozen.layout().slices()[0].offset == 0);
  CHECK(trained.values().size() + frozen.values().size() == all.element_count());
  CHECK(trained.layout().find(slices[2].name)->rate_factor == 3);

  ParameterArena whole(small_layout());
  for (std::size_t i = 0; i < whole.values().size(); ++i) whole.values()[i] = static_cast<float>(i);
  copy_tensors(whole, trained);
  copy_tensors(whole, frozen);
  ParameterArena again(small_layout());
  copy_tensors(trained, again);
  copy_tensors(frozen, again);
  CHECK(std::ranges::equal(again.values(), whole.values()));
}
