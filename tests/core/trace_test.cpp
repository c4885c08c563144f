#include "core/trace.h"

#include <atomic>
#include <barrier>
#include <chrono>
#include <string>
#include <thread>

#include <doctest/doctest.h>

using namespace dcs3gd;

TEST_CASE("spans are kept between start and stop only") {
  { const trace::Span before("main", "before"); }
  trace::start();
  { const trace::Span inside("main", "inside"); }
  {
    const trace::Span outer("main", "outer");
    const trace::Span inner("main", "inner");
  }
  const auto lanes = trace::stop();
  { const trace::Span after("main", "after"); }
  REQUIRE(lanes.size() == 1);
  CHECK(lanes[0].name == "main");
  REQUIRE(lanes[0].spans.size() == 3);
  CHECK(lanes[0].spans[0].name == std::string("inside"));
  CHECK(lanes[0].spans[1].name == std::string("inner"));
  CHECK(lanes[0].spans[2].name == std::string("outer"));
  CHECK(lanes[0].spans[2].begin_us <= lanes[0].spans[1].begin_us);

  trace::start();
  CHECK(trace::stop().empty());
}

TEST_CASE("a span lasts as long as its scope, by a clock that others share") {
  const auto now_us = [] {
    return std::chrono::duration<double, std::micro>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  const double before_us = now_us();
  trace::start();
  {
    const trace::Span span("main", "sleep");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto lanes = trace::stop();
  const trace::SpanRecord& span = lanes.at(0).spans.at(0);
  CHECK(span.duration_us >= 20e3);
  CHECK(span.begin_us > before_us - 1e6);
  CHECK(span.begin_us + span.duration_us < now_us() + 1e6);
}

TEST_CASE("a lane outlives its thread, and the next thread of its name goes on in it") {
  trace::start();
  { const trace::Span span("main", "a"); }
  std::jthread([] { const trace::Span span("other", "b"); }).join();
  std::jthread([] { const trace::Span span("other", "c"); }).join();
  const auto lanes = trace::stop();
  REQUIRE(lanes.size() == 2);
  CHECK(lanes[0].name == "main");
  CHECK(lanes[1].name == "other");
  REQUIRE(lanes[1].spans.size() == 2);
  CHECK(lanes[1].spans[1].name == std::string("c"));
}

TEST_CASE("threads of one name that run side by side have lanes of their own") {
  trace::start();
  std::barrier both(2);
  const auto work = [&] {
    { const trace::Span span("other", "a"); }
    both.arrive_and_wait();
    const trace::Span span("other", "b");
  };
  {
    const std::jthread first(work);
    const std::jthread second(work);
  }
  CHECK(trace::stop().size() == 2);
}

TEST_CASE("of a long recording the latest spans are kept, in order") {
  trace::start();
  for (std::size_t i = 0; i < trace::kSpansPerLane + 10; ++i) const trace::Span span("main", i < 10 ? "early" : "late");
  const auto lanes = trace::stop();
  REQUIRE(lanes.at(0).spans.size() == trace::kSpansPerLane);
  for (std::size_t i = 0; i < trace::kSpansPerLane; ++i) {
    CHECK(lanes[0].spans[i].name == std::string("late"));
    if (i > 0) CHECK(lanes[0].spans[i - 1].begin_us <= lanes[0].spans[i].begin_us);
  }
}

TEST_CASE("threads may begin and end spans while the recording stops") {
  std::atomic<bool> done = false;
  std::jthread worker([&] {
    while (!done) const trace::Span span("worker", "work");
  });
  for (int i = 0; i < 50; ++i) {
    trace::start();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    for (const auto& lane : trace::stop()) CHECK(lane.spans.size() <= trace::kSpansPerLane);
  }
  done = true;
}
