#include "app/rules/waits.h"

#include <algorithm>

#include "core/stopwatch.h"
#include "core/trace.h"

namespace dcs3gd::app {

void Waits::wait(std::optional<comm::Ticket>& ticket) {
  const trace::Span span("compute", "wait");
  const Stopwatch watch;
  comm::Ticket taken = std::move(*ticket);
  ticket.reset();
  results_.push_back(taken.wait());
  wait_ms_ += watch.elapsed_ms();
}

double Waits::all_reduce_ms() const {
  std::vector<comm::AllReduceResult> results = results_;
  std::ranges::sort(results, {}, &comm::AllReduceResult::start_ms);
  double sum = 0;
  double end_ms = 0;  // of all up to here
  for (const comm::AllReduceResult& result : results) {
    const double start_ms = std::max(result.start_ms, end_ms);
    end_ms = std::max(end_ms, result.start_ms + result.all_reduce_ms);
    sum += std::max(0.0, end_ms - start_ms);
  }
  return sum;
}

}  // namespace dcs3gd::app
