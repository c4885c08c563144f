#include "comm/backoff.h"

#include <algorithm>
#include <thread>

namespace dcs3gd::comm {
namespace {

using std::chrono::microseconds;

constexpr microseconds kSpin{100};      ///< asking again at once, for this long at most
constexpr microseconds kLongWait{200};  ///< where waits are usually longer, asking at once is in vain
// A nap lasts as long as the wait, so far or as usual; on one machine a part of that.
constexpr int kNapShareOnOneHost = 4;
constexpr microseconds kMaxNapOnOneHost{500};
constexpr microseconds kMaxNapBetweenHosts{2000};

/// A straggler must not make the thread sleepy for long.
constexpr microseconds kMostLearned{1000};
constexpr int kMemory = 8;  ///< waits that the running mean reaches back

}  // namespace

void Backoff::learn(Duration waited) {
  usual_wait_ += (std::min<Duration>(waited, kMostLearned) - usual_wait_) / kMemory;
}

void Backoff::pause(Duration waited) const {
  if (waited < kSpin && usual_wait_ < kLongWait) return;
  const Duration wait = std::max(waited, usual_wait_);
  std::this_thread::sleep_for(between_hosts_ ? std::min<Duration>(wait, kMaxNapBetweenHosts)
                                             : std::min<Duration>(wait / kNapShareOnOneHost, kMaxNapOnOneHost));
}

}  // namespace dcs3gd::comm
