#include "app/record/trace_file.h"

#include <nlohmann/json.hpp>

#include "app/job/agreement.h"
#include "core/files.h"
#include "core/format.h"
#include "core/trace.h"

namespace dcs3gd::app {
namespace {

using Json = nlohmann::ordered_json;

/// A name for a process or a row.
Json name_event(const char* kind, int rank, int row, const std::string& name) {
  return {{"name", kind}, {"ph", "M"}, {"pid", rank}, {"tid", row}, {"args", {{"name", name}}}};
}

/// This rank's events, a line each, with a comma after each.
std::string event_lines(int rank, const std::string& host, const std::vector<trace::LaneRecord>& lanes) {
  std::string lines;
  const auto append = [&](const Json& event) { lines += event.dump() + ",\n"; };
  append(name_event("process_name", rank, 0, format("rank {} on {}", rank, host)));
  for (std::size_t index = 0; index < lanes.size(); ++index) {
    const int row = static_cast<int>(index) + 1;
    append(name_event("thread_name", rank, row, lanes[index].name));
    for (const trace::SpanRecord& span : lanes[index].spans) {
      // Microseconds to three digits: nanoseconds.
      lines += format(R"({{"name":"{}","ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f}}},)"
                      "\n",
                      span.name, rank, row, span.begin_us, span.duration_us);
    }
  }
  return lines;
}

}  // namespace

void write_trace(comm::Communicator& communicator, const std::string& path, const std::vector<TensorPrice>& prices) {
  const std::vector<std::string> parts =
      communicator.gather_at_rank_0(event_lines(communicator.rank(), communicator.host(), trace::stop()));
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    Json by_tensor = Json::object();
    for (const TensorPrice& tensor : prices) by_tensor[tensor.name] = tensor.price;
    std::string text = format("{{\"displayTimeUnit\":\"ms\",\"otherData\":{},\"traceEvents\":[\n",
                              Json{{"staleness_price", by_tensor}}.dump());
    for (const std::string& part : parts) text += part;
    text.resize(text.size() - 2);  // the last comma
    write_file_atomically(path, text + "\n]}\n");
  });
}

}  // namespace dcs3gd::app
