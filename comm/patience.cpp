#include "comm/patience.h"

#include <algorithm>
#include <thread>

namespace dcs3gd::comm {
namespace {

using std::chrono::microseconds;

constexpr microseconds kSpin{100};      ///< asking again at once, for this long at most
constexpr microseconds kLongWait{200};  ///< where waits are usually longer, asking at once is in vain
constexpr int kNapShare = 4;            ///< a nap lasts this part of the wait, so far or as usual
constexpr microseconds kMaxNap{500};

/// A straggler must not make the thread sleepy for long.
constexpr microseconds kMostLearned{1000};
constexpr int kMemory = 8;  ///< waits that the running mean reaches back

}  // namespace

void Patience::learn(Duration waited) {
  usual_wait_ += (std::min<Duration>(waited, kMostLearned) - usual_wait_) / kMemory;
}

void Patience::pause(Duration waited) const {
  if (waited < kSpin && usual_wait_ < kLongWait) return;
  std::this_thread::sleep_for(std::min<Duration>(std::max(waited, usual_wait_) / kNapShare, kMaxNap));
}

}  // namespace dcs3gd::comm
