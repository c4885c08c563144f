#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Where the time of this process goes: spans of work, by thread, for a picture of what ran beside what. Off until
/// start(); a span then costs two looks at the clock, and memory for the latest kSpansPerLane of each thread is taken
/// once. A global state of the process, as the log is: work is named where it is done. Thread-safe but for start() and
/// stop(), which must not overlap with spans of other threads that matter.
namespace dcs3gd::trace {

constexpr std::size_t kSpansPerLane = 4096;

struct SpanRecord {
  const char* name = "";
  double begin_us = 0;  ///< since 1970, so that processes of one machine agree
  double duration_us = 0;
};

/// The spans of one thread, in the order in which they ended.
struct LaneRecord {
  std::string name;  ///< that of its first span's lane
  std::vector<SpanRecord> spans;
};

void start();
/// Ends the recording and returns it, in the order of the first spans: a lane for each thread that had a span; threads
/// of one name of which the second began after the first had ended share one.
std::vector<LaneRecord> stop();

/// A scoped object: from its construction to its end. `lane` and `name` must live for ever; literals do.
class Span {
 public:
  Span(const char* lane, const char* name);
  ~Span();
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  const char* lane_;  ///< none: nothing is recorded
  const char* name_;
  double begin_us_ = 0;
};

}  // namespace dcs3gd::trace
