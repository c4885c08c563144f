#include "app/rules/gradient_buckets.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "comm/thread_world.h"
#include "core/random_stream.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

constexpr int kSlices = 12;
constexpr std::size_t kOneBucket = kBucketElements;

std::shared_ptr<const ParameterLayout> layout_of_many_sizes() {
  std::vector<ParameterSlice> slices;
  for (int i = 0; i < kSlices; ++i) slices.push_back({.name = std::to_string(i), .shape = {1 + 37 * i % 100}});
  return std::make_shared<const ParameterLayout>(std::move(slices));
}

/// A small integer, so that sums are exact in any order.
float element(int rank, std::int64_t step, std::size_t index) {
  return static_cast<float>((rank + 3 * step + static_cast<std::int64_t>(7 * index)) % 101 - 50);
}

struct Case {
  int ranks;
  std::size_t bucket_elements;
  std::vector<int> order;  ///< in which the slices become final
};

/// Averages three steps' gradients, all but the first slice; true on each rank where every element is right.
std::vector<char> all_right(const Case& the_case) {
  std::vector<char> right(static_cast<std::size_t>(the_case.ranks), 1);
  comm::run_ranks_as_threads(the_case.ranks, {}, [&](comm::Communicator& communicator) {
    ParameterArena gradient(layout_of_many_sizes());
    const ParameterLayout& layout = gradient.layout();
    GradientBuckets buckets(
        communicator, gradient,
        {.slices = {1, kSlices}, .cut = 5, .factor = 0.5F, .bucket_elements = the_case.bucket_elements});
    for (const std::int64_t step : {0, 1, 2}) {
      for (const int number : the_case.order) {
        const ParameterSlice& slice = layout.slices()[static_cast<std::size_t>(number)];
        const std::span<float> values = gradient.slice(slice);
        for (std::size_t i = 0; i < values.size(); ++i)
          values[i] = element(communicator.rank(), step, slice.offset + i);
        if (number > 0) buckets.slice_ready(static_cast<std::size_t>(number));
      }
      Waits waits;
      bool good = buckets.is_in_flight();
      std::vector<int> received(kSlices);
      for (std::size_t number = 1; number < kSlices; ++number) {
        const SliceRange range = buckets.receive(number, waits);
        for (std::size_t in = range.first; in < range.end; ++in) ++received[in];
        good = good && (range.end <= 5 || range.first >= 5 || range.end == range.first);
      }
      good = good && !buckets.is_in_flight() && received == std::vector<int>{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
      for (std::size_t i = 0; i < layout.element_count(); ++i) {
        float sum = 0;
        for (int rank = 0; rank < the_case.ranks; ++rank) sum += element(rank, step, i);
        const float own = element(communicator.rank(), step, i);
        good = good && gradient.values()[i] == (i < layout.slices()[1].offset ? own : 0.5F * sum);
      }
      if (!good) right[static_cast<std::size_t>(communicator.rank())] = 0;
    }
  });
  return right;
}

}  // namespace

TEST_CASE("every element is averaged once, whatever the bucket's size and the order of the slices") {
  std::vector<int> first_to_last(kSlices);
  std::iota(first_to_last.begin(), first_to_last.end(), 0);
  const std::vector<int> last_to_first(first_to_last.rbegin(), first_to_last.rend());
  std::vector<std::uint32_t> numbers(first_to_last.begin(), first_to_last.end());
  RandomStream random(1, RandomPurpose::test);
  shuffle(numbers, random);
  const std::vector<int> shuffled(numbers.begin(), numbers.end());

  for (const int ranks : {1, 2, 3}) {
    for (const std::size_t bucket_elements : {std::size_t{1}, std::size_t{64}, std::size_t{150}, kOneBucket}) {
      for (const std::vector<int>& order : {first_to_last, last_to_first, shuffled}) {
        CAPTURE(ranks);
        CAPTURE(bucket_elements);
        CAPTURE(order[0]);
        CHECK(all_right({ranks, bucket_elements, order}) == std::vector<char>(static_cast<std::size_t>(ranks), 1));
      }
    }
  }
}

TEST_CASE("a bucket travels before the slices of the next are there") {
  comm::run_ranks_as_threads(1, {}, [](comm::Communicator& communicator) {
    ParameterArena gradient(layout_of_many_sizes());
    const std::vector<ParameterSlice>& slices = gradient.layout().slices();
    GradientBuckets buckets(communicator, gradient, {.slices = {0, kSlices}, .factor = 2, .bucket_elements = 1});
    std::ranges::fill(gradient.values(), 1.0F);
    CHECK_FALSE(buckets.is_in_flight());
    buckets.slice_ready(kSlices - 1);
    CHECK(buckets.is_in_flight());
    CHECK(gradient.slice(slices.back())[0] == 2);
    CHECK(gradient.slice(slices.front())[0] == 1);
    for (std::size_t number = kSlices - 1; number-- > 0;) buckets.slice_ready(number);
    Waits waits;
    for (std::size_t number = 0; number < kSlices; ++number) {
      const SliceRange range = buckets.receive(number, waits);
      CHECK(range.first == number);
      CHECK(range.end == number + 1);
    }
    CHECK(std::ranges::all_of(gradient.values(), [](float value) { return value == 2; }));
  });
}

TEST_CASE("a bucket averages over the ranks of a host") {
  comm::run_ranks_as_threads(4, {.ranks_per_host = 2}, [](comm::Communicator& communicator) {
    CHECK(communicator.ranks_here() == 2);
    ParameterArena gradient(layout_of_many_sizes());
    GradientBuckets buckets(communicator, gradient,
                            {.slices = {0, kSlices}, .factor = 0.5F, .group = comm::Group::host});
    std::ranges::fill(gradient.values(), static_cast<float>(communicator.rank()));
    for (std::size_t number = kSlices; number-- > 0;) buckets.slice_ready(number);
    Waits waits;
    buckets.receive(0, waits);
    const float expected = communicator.rank() < 2 ? 0.5F : 2.5F;
    CHECK(std::ranges::all_of(gradient.values(), [&](float value) { return value == expected; }));
  });
}

TEST_CASE("of all-reduces in flight together, time counts once") {
  comm::run_ranks_as_threads(2, {}, [](comm::Communicator& communicator) {
    std::vector<float> values(1000);
    auto first = communicator.plan_all_reduce({.values = values});
    std::vector<float> others(1000);
    auto second = communicator.plan_all_reduce({.values = others, .urgency = -1});
    std::optional<comm::Ticket> one = first.start();
    std::optional<comm::Ticket> two = second.start();
    Waits waits;
    waits.wait(one);
    waits.wait(two);
    CHECK_FALSE(one.has_value());
    CHECK(waits.wait_ms() > 0);
    CHECK(waits.all_reduce_ms() > 0);
  });
}
