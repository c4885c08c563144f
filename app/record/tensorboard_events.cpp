#include "app/record/tensorboard_events.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <string_view>
#include <variant>

#include <unistd.h>

#include "app/record/protobuf_message.h"
#include "app/record/scalars.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

using namespace std::string_view_literals;

// Fields of an event.
constexpr int kWallTime = 1;
constexpr int kStep = 2;
constexpr int kFileVersion = 3;
constexpr int kSummary = 5;
constexpr int kSessionLog = 7;

constexpr std::array<std::uint32_t, 256> crc32c_table() {
  constexpr std::uint32_t kReversedPolynomial = 0x82F63B78;
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kReversedPolynomial : 0);
    table[byte] = remainder;
  }
  return table;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string event_file(const std::string& folder) {
  char host[256] = "host";
  ::gethostname(host, sizeof(host) - 1);
  return format("{}/events.out.tfevents.{:010}.{}.{}", folder, static_cast<std::int64_t>(seconds_since_1970()), host,
                ::getpid());
}

template <typename Number>
void append_little_endian(std::string& bytes, Number number) {
  static_assert(std::endian::native == std::endian::little);
  bytes.append(std::bit_cast<std::array<char, sizeof(Number)>>(number).data(), sizeof(Number));
}

/// TensorFlow masks checksums, since a checksum of bytes that hold their own checksum is weak.
std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(std::as_bytes(std::span(bytes))), 15) + 0xA282EAD8U;
}

std::string record(const ProtobufMessage& event) {
  const std::string& data = event.bytes();
  std::string bytes;
  append_little_endian(bytes, static_cast<std::uint64_t>(data.size()));
  append_little_endian(bytes, masked_crc32c(bytes));
  bytes += data;
  append_little_endian(bytes, masked_crc32c(data));
  return bytes;
}

/// An event of now.
ProtobufMessage event_at(std::int64_t step) {
  return ProtobufMessage().with(kWallTime, seconds_since_1970()).with(kStep, step);
}

/// A summary for the plugin that compares the settings of runs: no number, but metadata of a tag.
ProtobufMessage hparams_summary(std::string_view what, int field, const ProtobufMessage& content) {
  constexpr std::int64_t kFloat = 1;
  constexpr std::int64_t kTensorClass = 2;
  const auto plugin_data = ProtobufMessage().with(field, content);
  const auto metadata = ProtobufMessage()
                            .with(1, ProtobufMessage().with(1, "hparams"sv).with(2, plugin_data.bytes()))
                            .with(4, kTensorClass);
  const auto empty_vector = ProtobufMessage().with(1, kFloat).with(2, ProtobufMessage().with(2, ProtobufMessage()));
  return ProtobufMessage().with(
      1, ProtobufMessage().with(1, format("_hparams_/{}", what)).with(8, empty_vector).with(9, metadata));
}

/// What decides how well a model learns, not where things lie and how a run shows itself.
bool is_hyperparameter(const std::string& key) {
  const auto begins_key = [&](std::string_view section) { return key.starts_with(section); };
  return std::ranges::any_of(
      std::array{"model."sv, "data.augment."sv, "algorithm."sv, "optimizer."sv, "run.seed"sv, "run.epochs"sv},
      begins_key);
}

/// google.protobuf.Value: a number or a truth value where the text is one, so that they can be sorted and plotted.
ProtobufMessage value_of(const std::string& text) {
  double number = 0;
  const char* end = text.data() + text.size();
  if (const auto read = std::from_chars(text.data(), end, number); read.ec == std::errc() && read.ptr == end) {
    return ProtobufMessage().with(2, number);
  }
  if (text == "true" || text == "false") return ProtobufMessage().with(4, std::int64_t{text == "true"});
  return ProtobufMessage().with(3, text);
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc32c_table();
  std::uint32_t remainder = ~0U;
  for (const std::byte byte : bytes) {
    remainder = (remainder >> 8) ^ kTable[(remainder ^ static_cast<std::uint32_t>(byte)) & 0xFF];
  }
  return ~remainder;
}

TensorBoardWriter::TensorBoardWriter(const std::string& folder, const Settings& settings) : file_(event_file(folder)) {
  file_.append(record(ProtobufMessage().with(kWallTime, seconds_since_1970()).with(kFileVersion, "brain.Event:2"sv)));
  ProtobufMessage session;
  for (const auto& [key, value] : settings) {
    if (is_hyperparameter(key)) {
      session.add(1, ProtobufMessage().with(1, key).with(2, value_of(value)));
    }
  }
  session.add(5, seconds_since_1970());
  file_.append(record(event_at(0).with(kSummary, hparams_summary("session_start_info", 3, session))));
}

void TensorBoardWriter::write(const Event& event) {
  if (const auto* start = std::get_if<StartEvent>(&event); start != nullptr && start->resumed_from) {
    constexpr std::int64_t kStart = 1;  // what was recorded from this step on is void
    file_.append(record(event_at(*start->resumed_from + 1).with(kSessionLog, ProtobufMessage().with(1, kStart))));
  }
  const Scalars scalars = scalars_of(event);
  step_ = scalars.step.value_or(step_);
  if (!scalars.values.empty()) {
    ProtobufMessage summary;
    for (const auto& [tag, value] : scalars.values) {
      summary.add(1, ProtobufMessage().with(1, tag).with(2, static_cast<float>(value)));
    }
    file_.append(record(event_at(step_).with(kSummary, summary)));
  }
  if (const auto* end = std::get_if<EndEvent>(&event)) append_session_end(*end);
}

void TensorBoardWriter::append_session_end(const EndEvent& event) {
  // TensorBoard keeps the first status that it sees, so there is none where a run may go on.
  constexpr std::int64_t kSuccess = 1;
  constexpr std::int64_t kFailure = 2;
  if (event.status != "done" && event.status != "diverged") return;
  const auto session =
      ProtobufMessage().with(1, event.status == "done" ? kSuccess : kFailure).with(2, seconds_since_1970());
  file_.append(record(event_at(step_).with(kSummary, hparams_summary("session_end_info", 4, session))));
}

}  // namespace dcs3gd::app
