#include "app/config/suggestion.h"

#include <vector>

#include <doctest/doctest.h>

using dcs3gd::app::edit_distance;
using dcs3gd::app::nearest;

TEST_CASE("the edit distance counts insertions, deletions, replacements and swaps") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("epochs", "epochs") == 0);
  CHECK(edit_distance("epoch", "epochs") == 1);
  CHECK(edit_distance("epochss", "epochs") == 1);
  CHECK(edit_distance("epocha", "epochs") == 1);
  CHECK(edit_distance("epcohs", "epochs") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("the nearest word is suggested only if it is near") {
  const std::vector<std::string> words = {"ring", "mpi", "timeout_s", "run.epochs"};
  CHECK(nearest("rign", words) == "ring");
  CHECK(nearest("timeout", words) == "timeout_s");
  CHECK(nearest("Ring", words) == "ring");
  CHECK_FALSE(nearest("tcp", words).has_value());
  CHECK_FALSE(nearest("", words).has_value());
  CHECK_FALSE(nearest(std::string(1'000'000, 'r'), words).has_value());
  CHECK_FALSE(nearest("nur.epochs.x", words).has_value());
}

TEST_CASE("of equally near words the first is suggested") {
  CHECK(nearest("resnet2", std::vector<std::string>{"resnet20", "resnet32", "resnet2x"}) == "resnet20");
}
