#include "core/trace.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string_view>

namespace dcs3gd::trace {
namespace {

struct Lane {
  explicit Lane(const char* lane_name) : name(lane_name) { spans.reserve(kSpansPerLane); }

  const char* const name;
  std::mutex mutex;  ///< never contended but by stop()
  // Guarded by mutex.
  std::vector<SpanRecord> spans;  ///< a ring once it is full
  std::size_t oldest = 0;
};

struct Recording {
  std::atomic<std::uint64_t> number = 0;  ///< of the recording under way; 0: none
  std::mutex mutex;
  // Guarded by mutex.
  std::uint64_t last_number = 0;
  std::vector<std::shared_ptr<Lane>> lanes;  ///< one that only this list holds is free for a thread that begins
};

Recording& recording() {
  static Recording the_recording;
  return the_recording;
}

/// The steady clock, set once by the system's: never goes back, and comparable between processes.
double now_us() {
  using std::chrono::duration;
  using Microseconds = duration<double, std::micro>;
  static const double offset_us = Microseconds(std::chrono::system_clock::now().time_since_epoch()).count() -
                                  Microseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  return offset_us + Microseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// This thread's lane of the recording under way.
std::shared_ptr<Lane> lane_of_thread(const char* name) {
  thread_local std::uint64_t number = 0;
  thread_local std::shared_ptr<Lane> lane;
  const std::uint64_t current = recording().number;
  if (number != current) {
    const std::lock_guard lock(recording().mutex);
    const auto is_free = [&](const auto& one) { return one.use_count() == 1 && std::string_view(one->name) == name; };
    const auto free = std::ranges::find_if(recording().lanes, is_free);
    lane = free != recording().lanes.end() ? *free : std::make_shared<Lane>(name);
    if (free == recording().lanes.end()) recording().lanes.push_back(lane);
    number = current;
  }
  return lane;
}

void add(Lane& lane, const SpanRecord& span) {
  const std::lock_guard lock(lane.mutex);
  if (lane.spans.size() < kSpansPerLane) {
    lane.spans.push_back(span);
  } else {
    lane.spans[lane.oldest] = span;
    lane.oldest = (lane.oldest + 1) % kSpansPerLane;
  }
}

}  // namespace

void start() {
  Recording& now = recording();
  const std::lock_guard lock(now.mutex);
  now.lanes.clear();
  now.number = ++now.last_number;
}

std::vector<LaneRecord> stop() {
  Recording& now = recording();
  const std::lock_guard lock(now.mutex);
  now.number = 0;
  std::vector<LaneRecord> records;
  for (const std::shared_ptr<Lane>& lane : now.lanes) {
    const std::lock_guard lane_lock(lane->mutex);
    const auto oldest = lane->spans.begin() + static_cast<std::ptrdiff_t>(lane->oldest);
    std::rotate(lane->spans.begin(), oldest, lane->spans.end());
    records.push_back({lane->name, std::move(lane->spans)});
    lane->spans.clear();
    lane->oldest = 0;
  }
  now.lanes.clear();
  return records;
}

Span::Span(const char* lane, const char* name) : lane_(recording().number != 0 ? lane : nullptr), name_(name) {
  if (lane_ != nullptr) begin_us_ = now_us();
}

Span::~Span() {
  if (lane_ == nullptr || recording().number == 0) return;
  add(*lane_of_thread(lane_), {name_, begin_us_, now_us() - begin_us_});
}

}  // namespace dcs3gd::trace
