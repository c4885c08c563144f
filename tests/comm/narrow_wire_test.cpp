#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "comm/wire_format.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "tests/comm/all_reduce_checks.h"

namespace dcs3gd::comm {
namespace {

constexpr Wire kNarrow[] = {Wire::int8, Wire::int4};
constexpr double kSlack = 1 + 0x1p-7;  // the scale is a bf16, and sums are taken in fp32

double levels(Wire wire) { return wire == Wire::int8 ? 127 : 7; }

/// Numbers with full mantissas of up to `envelope(i)`, different on every rank.
double envelope(std::size_t index) { return std::exp2(static_cast<double>(index % 640) / 64 - 5); }
std::vector<float> random_values(int rank, std::size_t count, std::uint64_t seed = 7) {
  RandomStream random(seed, RandomPurpose::test, static_cast<std::uint64_t>(rank));
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(envelope(i) * (2 * static_cast<double>(random.uniform()) - 1));
  }
  return values;
}
/// The largest envelope in any block that may hold this index.
double block_envelope(std::size_t index) {
  double largest = 0;
  for (std::size_t i = index < kBlockFloats ? 0 : index - kBlockFloats; i <= index + kBlockFloats; ++i) {
    largest = std::max(largest, envelope(i));
  }
  return largest;
}

std::vector<std::byte> encoded(Wire wire, const std::vector<float>& values, float* loss = nullptr) {
  std::vector<std::byte> bytes(wire_bytes(wire, values.size()));
  encode(wire, values.data(), loss, bytes.data(), values.size());
  return bytes;
}

std::vector<float> decoded(Wire wire, const std::vector<std::byte>& bytes, std::size_t count) {
  std::vector<float> values(count);
  decode(wire, bytes.data(), values.data(), count);
  return values;
}

/// 8.5 and 4.5 bits.
TEST_CASE("what so many floats take") {
  CHECK(info_of(Wire::int8).bits() == 8.5);
  CHECK(info_of(Wire::int4).bits() == 4.5);
  CHECK(wire_bytes(Wire::fp32, 33) == 132);
  CHECK(wire_bytes(Wire::bf16, 33) == 66);
  CHECK(wire_bytes(Wire::int8, 33) == 68);
  CHECK(wire_bytes(Wire::int4, 33) == 36);
  CHECK(wire_bytes(Wire::int4, 0) == 0);
  CHECK(wire_floats(Wire::int4, 64) == 96);
  for (const WireInfo& info : kWires) CHECK(&info_of(info.wire) == &info);
}

TEST_CASE("each value is the nearest multiple of its block's scale, and is encoded as the same bytes again") {
  for (const Wire wire : kNarrow) {
    for (std::size_t count = 0; count < 130; ++count) {
      const std::vector<float> values = random_values(1, count);
      const std::vector<std::byte> bytes = encoded(wire, values);
      const std::vector<float> back = decoded(wire, bytes, count);
      for (std::size_t first = 0; first < count; first += kBlockFloats) {
        double largest = 0;
        const std::size_t end = std::min(count, first + kBlockFloats);
        for (std::size_t i = first; i < end; ++i) {
          largest = std::max(largest, std::abs(static_cast<double>(values[i])));
        }
        for (std::size_t i = first; i < end; ++i) {
          CHECK(std::abs(static_cast<double>(back[i] - values[i])) <= kSlack * largest / levels(wire) / 2);
        }
      }
      CHECK(encoded(wire, back) == bytes);

      std::vector<float> sum(count, 1.5F);
      add(wire, bytes.data(), sum.data(), count);
      std::vector<float> rounded = values;
      scale_and_round(wire, 1, nullptr, rounded.data(), count);
      CHECK(rounded == back);
      for (std::size_t i = 0; i < count; ++i) CHECK(sum[i] == 1.5F + back[i]);
    }
  }
}

TEST_CASE("what rounding loses is kept, in the units of the sum, and added the next time") {
  constexpr std::size_t kFloats = 100;
  constexpr float kFactor = 1.0F / 3;
  for (const Wire wire : kNarrow) {
    const std::vector<float> values = random_values(1, kFloats);
    std::vector<float> loss = random_values(2, kFloats);
    std::vector<float> finished_loss = loss;
    const std::vector<float> before = loss;
    const std::vector<float> back = decoded(wire, encoded(wire, values, loss.data()), kFloats);
    std::vector<float> finished = values;
    scale_and_round(wire, kFactor, finished_loss.data(), finished.data(), kFloats);
    for (std::size_t i = 0; i < kFloats; ++i) {
      CHECK(back[i] + loss[i] == doctest::Approx(values[i] + before[i]).epsilon(1e-5));
      CHECK(finished[i] / kFactor + finished_loss[i] == doctest::Approx(values[i] + before[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("zeros stay zeros; NaN and infinity make their block not finite, and no other") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Wire wire : kNarrow) {
    std::vector<float> values(3 * kBlockFloats);
    CHECK(decoded(wire, encoded(wire, values), values.size()) == values);
    std::ranges::fill(values, std::numeric_limits<float>::denorm_min());
    CHECK(decoded(wire, encoded(wire, values), values.size()) == std::vector<float>(values.size()));
    for (const float poison : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity}) {
      std::ranges::fill(values, std::numeric_limits<float>::max());
      values[kBlockFloats + 3] = poison;
      std::vector<float> finished = values;
      scale_and_round(wire, 1, nullptr, finished.data(), finished.size());
      for (const std::vector<float>& back : {decoded(wire, encoded(wire, values), values.size()), finished}) {
        for (std::size_t i = 0; i < back.size(); ++i) {
          CHECK(std::isfinite(back[i]) == (i / kBlockFloats != 1));
        }
      }
    }
  }
}

struct World {
  int ranks;
  int ranks_per_host;
  const char* algorithm;
  std::size_t floats;
};
const World kWorlds[] = {{2, 2, "direct", 5003},        {3, 1, "auto", 5003},          {16, 16, "direct", 5003},
                         {16, 3, "hierarchical", 5003}, {12, 3, "hierarchical", 5003}, {64, 10, "hierarchical", 3001},
                         {67, 67, "auto", 3001},        {256, 16, "auto", 9001}};

Options options_of(const World& world, Wire wire, std::optional<std::size_t> segment_bytes = {}) {
  return {.algorithm = world.algorithm,
          .wire = wire,
          .ranks_per_host = world.ranks_per_host,
          .segment_bytes = segment_bytes,
          .timeout_s = 60};
}

/// Every summand is rounded once, or its host's sum, and the sum of all once more: of each a half of its scale.
TEST_CASE("the sum is within two roundings of the exact one and the same on all ranks, however many there are") {
  for (const Wire wire : kNarrow) {
    for (const World& world : kWorlds) {
      std::vector<double> exact(world.floats);
      for (int rank = 0; rank < world.ranks; ++rank) {
        const std::vector<float> summands = random_values(rank, world.floats);
        for (std::size_t i = 0; i < world.floats; ++i) exact[i] += static_cast<double>(summands[i]);
      }
      INFO(std::string(info_of(wire).name), ", ", world.ranks, " ranks, ", world.algorithm);
      std::string finding;
      run_ranks_as_threads(world.ranks, options_of(world, wire), [&](Communicator& communicator) {
        const std::shared_ptr<float> memory = communicator.allocate(world.floats);  // shared on hosts of equal size
        const std::span values(memory.get(), world.floats);
        std::ranges::copy(random_values(communicator.rank(), world.floats), values.begin());
        communicator.plan_all_reduce({.values = values, .factor = 1}).start().wait();
        const std::string differing = check_same_bits(communicator, values.data(), world.floats * sizeof(float));
        if (communicator.rank() != 0) return;
        finding = differing;
        for (std::size_t i = 0; i < world.floats; ++i) {
          const double error = std::abs(static_cast<double>(values[i]) - exact[i]);
          const double bound = 2 * kSlack * world.ranks * block_envelope(i) / levels(wire) / 2;
          if (error > bound) finding = format("element {}: {} > {}", i, error, bound);
        }
      });
      CHECK(finding == "");
    }
  }
}

TEST_CASE("the size of a segment changes no bit") {
  for (const Wire wire : kNarrow) {
    for (const World& world : {World{3, 3, "direct", 5003}, World{7, 3, "hierarchical", 5003}}) {
      std::vector<std::vector<float>> results;
      for (const std::optional<std::size_t> segment_bytes : {std::optional<std::size_t>(), {64}, {1000}}) {
        run_ranks_as_threads(world.ranks, options_of(world, wire, segment_bytes), [&](Communicator& communicator) {
          std::vector<float> values = random_values(communicator.rank(), world.floats);
          std::vector<float> losses = random_values(communicator.rank(), world.floats, 8);
          communicator.plan_all_reduce({.values = values, .losses = losses}).start().wait();
          const auto all_losses =
              communicator.all_gather({reinterpret_cast<const char*>(losses.data()), losses.size() * sizeof(float)});
          if (communicator.rank() != 0) return;
          for (const std::string& blob : all_losses) {
            for (const char byte : blob) values.push_back(byte);
          }
          results.push_back(values);
        });
      }
      CHECK(results[1] == results[0]);
      CHECK(results[2] == results[0]);
    }
  }
}

/// Each rank's summand is the same at every step, and many are below half a scale: without feedback these never arrive.
TEST_CASE("over many steps all that was sent arrives, but for what the last one has lost") {
  constexpr int kSteps = 40;
  constexpr std::size_t kFloats = 1500;
  for (const Wire wire : kNarrow) {
    for (const World& world :
         {World{2, 2, "direct", kFloats}, World{5, 2, "hierarchical", kFloats}, World{6, 2, "hierarchical", kFloats}}) {
      const float factor = 1.0F / static_cast<float>(world.ranks);
      std::vector<double> sent(kFloats);
      for (int rank = 0; rank < world.ranks; ++rank) {
        for (std::size_t i = 0; i < kFloats; ++i) {
          sent[i] += kSteps * static_cast<double>(0.02F * random_values(rank, kFloats)[i]);
        }
      }
      INFO(std::string(info_of(wire).name), ", ", world.algorithm);
      std::string finding;
      run_ranks_as_threads(world.ranks, options_of(world, wire, 1000), [&](Communicator& communicator) {
        const std::vector<float> summands = random_values(communicator.rank(), kFloats);
        const std::shared_ptr<float> memory = communicator.allocate(kFloats);
        const std::span values(memory.get(), kFloats);
        std::vector<float> losses(kFloats);
        std::vector<double> arrived(kFloats);
        AllReducePlan plan = communicator.plan_all_reduce({.values = values, .factor = factor, .losses = losses});
        for (int step = 0; step < kSteps; ++step) {
          for (std::size_t i = 0; i < kFloats; ++i) values[i] = 0.02F * summands[i];
          for (std::size_t i = 0; i < kFloats; i += kBlockFloats) values[i] = 0.8F;  // makes the scales large
          plan.start().wait();
          for (std::size_t i = 0; i < kFloats; ++i) arrived[i] += static_cast<double>(values[i] / factor);
        }
        AllReducePlan exact = communicator.plan_all_reduce({.values = losses, .factor = 1, .wire = Wire::fp32});
        const double own_lost =
            std::abs(*std::ranges::max_element(losses, {}, [](float loss) { return std::abs(loss); }));
        exact.start().wait();
        const double own_bound = 1.1 / levels(wire);  // of the summand's scale, or of the sum's, more than a half
        if (own_lost > world.ranks * own_bound) throw std::runtime_error(format("{} is lost", own_lost));
        for (std::size_t i = 0; i < kFloats && communicator.rank() == 0; ++i) {
          if (i % kBlockFloats == 0) continue;
          const double missing = sent[i] - arrived[i];
          if (std::abs(missing - static_cast<double>(losses[i])) > 1e-4) finding = format("element {}", i);
          if (std::abs(missing) > 2 * world.ranks * own_bound) finding = format("{} is missing", missing);
        }
      });
      CHECK(finding == "");
    }
  }
}

TEST_CASE("NaN of one rank reaches all ranks") {
  for (const Wire wire : kNarrow) {
    run_ranks_as_threads(3, options_of({3, 3, "direct", 0}, wire), [&](Communicator& communicator) {
      std::vector<float> values(100, 1.0F);
      std::vector<float> losses(100);
      if (communicator.rank() == 1) values[7] = std::nanf("");
      communicator.plan_all_reduce({.values = values, .losses = losses}).start().wait();
      if (std::isfinite(values[7]) || !std::isfinite(values[99])) throw std::runtime_error("lost");
    });
  }
}

TEST_CASE("within a host nothing is rounded, and alone nothing is lost") {
  run_ranks_as_threads(4, options_of({4, 2, "auto", 0}, Wire::int4), [](Communicator& communicator) {
    std::vector<float> values{communicator.rank() < 2 ? 1.25F : 2.00001F, 1000};
    const std::vector<float> expected = values;
    communicator.plan_all_reduce({.values = values, .group = Group::host}).start().wait();
    if (values != expected) throw std::runtime_error("rounded");
  });
  run_ranks_as_threads(1, options_of({1, 1, "auto", 0}, Wire::int4), [](Communicator& communicator) {
    std::vector<float> values{1.00001F, 1000};
    std::vector<float> losses(2);
    communicator.plan_all_reduce({.values = values, .losses = losses}).start().wait();
    CHECK(values[0] == 1.00001F);
    CHECK(losses == std::vector<float>(2));
  });
}

}  // namespace
}  // namespace dcs3gd::comm
