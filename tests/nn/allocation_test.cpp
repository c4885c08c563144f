// A step allocates nothing: this program replaces the global operator new and counts its calls by who made them.
// oneDNN 2.6 itself makes some on each execution (the argument maps in its execution context), which its users cannot
// avoid; everything else, our code and the standard library on our behalf, must make none.

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include <dlfcn.h>
#include <doctest/doctest.h>

#include "tests/nn/network_test_support.h"
#include "tests/support/named_networks.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;
using dcs3gd::test::build_model;
using dcs3gd::test::ModelOptions;

namespace {

std::atomic<bool> counting = false;
std::atomic<int> allocations_of_onednn = 0;
std::atomic<int> allocations_of_others = 0;

bool is_in_onednn(void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 && info.dli_fname != nullptr && std::strstr(info.dli_fname, "libdnnl") != nullptr;
}

void* counted_allocation_or_null(std::size_t bytes, void* caller) noexcept {
  if (counting) ++(is_in_onednn(caller) ? allocations_of_onednn : allocations_of_others);
  return std::malloc(bytes == 0 ? 1 : bytes);
}

void* counted_allocation(std::size_t bytes, void* caller) {
  if (void* memory = counted_allocation_or_null(bytes, caller)) return memory;
  throw std::bad_alloc();
}

struct Counts {
  int onednn, others;
};

template <typename Function>
Counts count_allocations(Function&& function) {
  allocations_of_onednn = 0;
  allocations_of_others = 0;
  counting = true;
  function();
  counting = false;
  return {allocations_of_onednn, allocations_of_others};
}

}  // namespace

void* operator new(std::size_t bytes) { return counted_allocation(bytes, __builtin_return_address(0)); }
void* operator new[](std::size_t bytes) { return counted_allocation(bytes, __builtin_return_address(0)); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted_allocation_or_null(bytes, __builtin_return_address(0));
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted_allocation_or_null(bytes, __builtin_return_address(0));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

TEST_CASE("the count sees allocations") {
  const Counts counts = count_allocations([] {
    std::vector<int> numbers(100);
    CHECK(numbers.size() == 100);
  });
  CHECK(counts.others > 0);
}

TEST_CASE("a training step and an evaluation allocate nothing outside oneDNN") {
  for (const std::string model : {"lenet5", "resnet20"}) {
    CAPTURE(model);
    const Graph graph = build_model({.name = model, .image_size = 16});
    const RandomState state(graph);
    const RandomBatch batch(graph, 4);
    PreparedNetwork engine(graph, {.batch = 4}, state);
    std::size_t announced = 0;
    const PassHooks hooks{.on_weights_needed = [&](const ParameterSlice&) { ++announced; },
                          .on_gradient_ready = [&](const ParameterSlice&) { ++announced; }};
    const auto pass = [&] {
      engine.network.set_weights(state.weights);
      engine.network.compute_gradient(batch.view(), {}, engine.gradient, hooks);
      engine.network.evaluate(batch.view());
    };
    pass();
    const Counts counts = count_allocations(pass);
    CHECK(announced > 0);
    CHECK(counts.others == 0);
    MESSAGE("oneDNN's own allocations in a step and an evaluation of ", model, ": ", counts.onednn);
  }
}
