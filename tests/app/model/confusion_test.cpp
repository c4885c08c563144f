#include "app/model/confusion.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "comm/thread_world.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

/// Images of the labels, taken for these classes of three.
void add(Confusion& confusion, const std::vector<std::int32_t>& labels, const std::vector<std::size_t>& taken_for) {
  data::Batch batch;
  batch.labels = labels;
  batch.count = static_cast<int>(taken_for.size());  // labels after them are no images
  std::vector<float> logits(3 * labels.size());
  for (std::size_t i = 0; i < taken_for.size(); ++i) logits[3 * i + taken_for[i]] = 1;
  confusion.add(batch, logits);
}

}  // namespace

TEST_CASE("what classes are taken for, over all ranks, the worst first") {
  comm::run_ranks_as_threads(2, {}, [](comm::Communicator& communicator) {
    Confusion confusion(3);
    if (communicator.rank() == 0) {
      add(confusion, {0, 0, 2, 2, 1}, {0, 1, 2, 2});
    } else {
      add(confusion, {0, 0}, {2, 2});
    }
    confusion.sum(communicator);
    CHECK(confusion.count(0, 2) == 2);
    CHECK(confusion.count(2, 2) == 2);
    CHECK(confusion.worst_classes({"cat", "dog", "zebra"}, 20) ==
          std::vector<std::string>{"cat     25.00 % of 4; taken for zebra (2), dog (1)", "zebra  100.00 % of 2"});
    CHECK(confusion.worst_classes({}, 1) ==
          std::vector<std::string>{"class 0   25.00 % of 4; taken for class 2 (2), class 1 (1)"});
  });
}

TEST_CASE("counts of more than eight bits are summed exactly") {
  comm::run_ranks_as_threads(3, {}, [](comm::Communicator& communicator) {
    const std::size_t images = communicator.rank() == 1 ? 70'001 : 300;
    Confusion confusion(3);
    add(confusion, std::vector<std::int32_t>(images, 1), std::vector<std::size_t>(images, 2));
    confusion.sum(communicator);
    CHECK(confusion.count(1, 2) == 70'601);
    CHECK(confusion.count(1, 1) == 0);
  });
}
