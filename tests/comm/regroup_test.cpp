#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

float sum_over_ranks(Communicator& communicator, float mine) {
  std::vector<float> values(1000, mine);
  communicator.plan_all_reduce({.values = values, .factor = 1.0F}).start().wait();
  return values.back();
}

/// Whoever dies waits until the others are done with what is before: else they miss it there.
class Meetings {
 public:
  /// Returns when it was called `times` times, by all ranks together.
  void meet(int times) {
    ++calls_;
    while (calls_ < times) std::this_thread::yield();
  }

 private:
  std::atomic<int> calls_ = 0;
};

/// Until nobody is missing any more, as `what` is done; the names of all that were lost.
template <typename Task>
std::string without_the_lost(Communicator& communicator, const Task& task) {
  std::string lost;
  for (bool is_done = false; !is_done;) {
    try {
      if (communicator.has_lost_ranks()) lost += communicator.regroup() + ";";
      task();
      is_done = true;
    } catch (const Error&) {
      REQUIRE(communicator.has_lost_ranks());
    }
  }
  return lost;
}

TEST_CASE("those left when ranks die form a world of their own, in their old order") {
  Meetings meetings;
  std::atomic<int> survivors = 0;
  run_ranks_as_threads(5, {}, [&](Communicator& communicator) {
    const int first_rank = communicator.rank();
    const auto first_number = static_cast<float>(first_rank);
    meetings.meet(5);
    CHECK(sum_over_ranks(communicator, first_number) == 10);
    meetings.meet(10);
    if (first_rank == 0 || first_rank == 3) throw RankDies();
    float sum = 0;
    const std::string lost = without_the_lost(communicator, [&] { sum = sum_over_ranks(communicator, first_number); });
    // One after the other or both at once.
    for (const int rank : {0, 3}) CHECK_MESSAGE(lost.find(format("rank {} on ", rank)) != std::string::npos, lost);
    CHECK(sum == 1 + 2 + 4);
    CHECK(communicator.size() == 3);
    CHECK(communicator.places().size() == 3);
    CHECK(communicator.rank() == (first_rank == 4 ? 2 : first_rank - 1));
    CHECK(communicator.gather(first_rank) == std::vector<int>{1, 2, 4});

    meetings.meet(13);
    if (first_rank == 2) throw RankDies();
    CHECK(without_the_lost(communicator, [&] { sum = sum_over_ranks(communicator, first_number); }) ==
          format("rank 2 on {};", communicator.host()));
    CHECK(sum == 1 + 4);
    meetings.meet(15);
    if (first_rank == 4) throw RankDies();
    without_the_lost(communicator, [&] { sum = sum_over_ranks(communicator, first_number); });
    CHECK(sum == 1);  // alone
    ++survivors;
  });
  CHECK(survivors == 1);
}

TEST_CASE("all-reduces in flight when a rank dies fail, and their memory is free before who waits goes on") {
  Meetings meetings;
  run_ranks_as_threads(3, {}, [&](Communicator& communicator) {
    meetings.meet(3);
    {
      std::vector<float> values(100000, 1.0F);
      std::vector<float> others(100000, 1.0F);
      auto plan = communicator.plan_all_reduce({.values = values});
      auto other_plan = communicator.plan_all_reduce({.values = others});
      meetings.meet(6);
      if (communicator.rank() == 1) throw RankDies();
      Ticket ticket = plan.start();
      Ticket other_ticket = other_plan.start();
      CHECK_THROWS_AS(ticket.wait(), Error);
      CHECK_THROWS_AS(other_ticket.wait(), Error);
    }
    CHECK_THROWS_AS(communicator.barrier(), Error);
    REQUIRE(communicator.has_lost_ranks());
    communicator.regroup();
    CHECK_FALSE(communicator.has_lost_ranks());
    CHECK(sum_over_ranks(communicator, 2) == 4);
  });
}

TEST_CASE("a world that was ended cannot go on") {
  const std::function<void(Communicator&)> ends[] = {
      [](Communicator&) { throw Error(ErrorKind::failure, "rank 1 has a reason of its own"); },
      [](Communicator& communicator) {
        communicator.abort("rank 1 ends the job");
        throw Error(ErrorKind::failure, "ended");
      }};
  for (const auto& end : ends) {
    const auto body = [&](Communicator& communicator) {
      if (communicator.rank() == 1) end(communicator);
      CHECK_THROWS_AS(communicator.barrier(), Error);
      CHECK_FALSE(communicator.has_lost_ranks());
    };
    CHECK_THROWS_AS(run_ranks_as_threads(2, {}, body), Error);
  }
}

}  // namespace
}  // namespace dcs3gd::comm
