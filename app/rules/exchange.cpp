#include "app/rules/exchange.h"

#include <utility>

namespace dcs3gd::app {

Exchange::Exchange(comm::Communicator& communicator, std::shared_ptr<const ParameterLayout> layout, int workers)
    : values_(std::move(layout)),
      plan_(communicator.plan_all_reduce(
          {.values = values_.values(), .tail = sums_.as_span(), .factor = 1 / static_cast<float>(workers)})) {}

void Exchange::start(const StepSums& sums) {
  sums_ = sums;
  ticket_ = plan_.start();
}

double Exchange::finish() { return std::exchange(ticket_, std::nullopt)->wait().all_reduce_ms; }

}  // namespace dcs3gd::app
