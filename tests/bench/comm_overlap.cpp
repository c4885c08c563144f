// What an all-reduce in flight costs a computing rank, and what computing costs the all-reduce:
//   mpirun -n 2 comm_overlap [FLOATS [COMPUTE_MS [REPETITIONS]]]
// Each repetition computes alone, reduces alone, and does both at once; rank 0 prints medians.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <vector>

#include <time.h>

#include "comm/communicator.h"
#include "core/aligned_buffer.h"
#include "core/format.h"
#include "core/stopwatch.h"

namespace dcs3gd::comm {
namespace {

/// Arithmetic in registers on all OpenMP threads: what is lost to it is processor time, not memory bandwidth.
void compute(int units) {
  constexpr int kLanes = 64;
  constexpr int kRounds = 20000;
  float total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
  for (int unit = 0; unit < units; ++unit) {
    float lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = static_cast<float>(unit + lane);
    for (int round = 0; round < kRounds; ++round) {
      for (float& lane : lanes) lane = lane * 0.999F + 0.1F;
    }
    for (const float lane : lanes) total += lane;
  }
  if (!(total > 0)) throw std::logic_error("the compiler has left out the work");
}

double process_cpu_ms() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return 1e3 * static_cast<double>(used.tv_sec) + 1e-6 * static_cast<double>(used.tv_nsec);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// As many units as take `target_ms` on rank 0.
int calibrate(Communicator& communicator, double target_ms) {
  constexpr int kProbe = 200;
  compute(kProbe);
  const Stopwatch stopwatch;
  compute(kProbe);
  int units = std::max(1, static_cast<int>(kProbe * target_ms / stopwatch.elapsed_ms()));
  communicator.broadcast(std::as_writable_bytes(std::span(&units, 1)));
  return units;
}

void run(std::size_t floats, double compute_ms, int repetitions) {
  const auto communicator = Communicator::open({});
  AlignedBuffer<float> values(floats);
  const int units = calibrate(*communicator, compute_ms);
  std::vector<double> compute_alone, reduce_alone, reduce_cpu, compute_both, reduce_both, exposed;
  for (int i = 0; i < repetitions; ++i) {
    communicator->barrier();
    Stopwatch stopwatch;
    compute(units);
    compute_alone.push_back(stopwatch.elapsed_ms());

    communicator->barrier();
    const double cpu_before_ms = process_cpu_ms();
    reduce_alone.push_back(communicator->plan_all_reduce({.values = values.span()}).start().wait().all_reduce_ms);
    reduce_cpu.push_back(process_cpu_ms() - cpu_before_ms);

    communicator->barrier();
    Ticket ticket = communicator->plan_all_reduce({.values = values.span()}).start();
    stopwatch.restart_s();
    compute(units);
    compute_both.push_back(1e3 * stopwatch.restart_s());
    reduce_both.push_back(ticket.wait().all_reduce_ms);
    exposed.push_back(stopwatch.elapsed_ms());
  }
  if (communicator->rank() != 0) return;
  std::puts(format("compute alone {:.1f} ms, all-reduce alone {:.1f} ms (processor {:.1f} ms); at once: compute {:.1f} "
                   "ms, all-reduce {:.1f} ms, waited for at the end {:.1f} ms",
                   median(compute_alone), median(reduce_alone), median(reduce_cpu), median(compute_both),
                   median(reduce_both), median(exposed))
                .c_str());
}

}  // namespace
}  // namespace dcs3gd::comm

int main(int argc, char** argv) {
  const std::size_t floats = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 25557032;
  const double compute_ms = argc > 2 ? std::atof(argv[2]) : 300;
  const int repetitions = argc > 3 ? std::atoi(argv[3]) : 7;
  dcs3gd::comm::run(floats, compute_ms, repetitions);
}
