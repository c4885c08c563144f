// metrics.jsonl of a run that continues, and summary.json: whatever stands there, they are no reason not to.

#include "app/record/metrics.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const fuzz::TimeLimit limit;
  const std::string path = fuzz::write_input("metrics.jsonl", {data, size});
  app::read_status(path);
  app::rewind_metrics(path, 3);
  const auto rewound = std::filesystem::file_size(path);
  fuzz::require(rewound <= size);
  app::rewind_metrics(path, 3);
  fuzz::require(std::filesystem::file_size(path) == rewound);
  return 0;
}
