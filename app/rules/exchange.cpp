#include "app/rules/exchange.h"

#include <utility>

namespace dcs3gd::app {

Exchange::Exchange(comm::Communicator& communicator, std::shared_ptr<const ParameterLayout> layout, int workers)
    : communicator_(communicator), factor_(1 / static_cast<float>(workers)), values_(std::move(layout)) {}

void Exchange::start(const StepSums& sums) {
  sums_ = sums;
  ticket_ = communicator_.start_all_reduce({.values = values_.values(), .extras = sums_.as_span(), .factor = factor_});
}

double Exchange::finish() { return std::exchange(ticket_, std::nullopt)->wait().all_reduce_ms; }

}  // namespace dcs3gd::app
