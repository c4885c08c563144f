#include "app/record/tensorboard_events.h"

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <string_view>
#include <variant>

#include <unistd.h>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

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

/// A protobuf message in the making. Fields are written in the order of the calls.
class Message {
 public:
  Message& integer(int field, std::uint64_t value) {
    append_key(field, varint);
    append_varint(value);
    return *this;
  }
  Message& number(int field, double value) {
    append_key(field, fixed64);
    append_little_endian(bytes_, value);
    return *this;
  }
  Message& number(int field, float value) {
    append_key(field, fixed32);
    append_little_endian(bytes_, value);
    return *this;
  }
  Message& text(int field, std::string_view value) {
    append_key(field, length_delimited);
    append_varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& inner) { return text(field, inner.bytes_); }

  const std::string& bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }

 private:
  enum WireType : std::uint8_t { varint = 0, fixed64 = 1, length_delimited = 2, fixed32 = 5 };

  void append_key(int field, WireType type) { append_varint((static_cast<std::uint64_t>(field) << 3) | type); }
  void append_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

/// TensorFlow masks checksums, since a checksum of bytes that hold their own checksum is weak.
std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(std::as_bytes(std::span(bytes))), 15) + 0xA282EAD8U;
}

std::string record(const Message& event) {
  const std::string& data = event.bytes();
  std::string bytes;
  append_little_endian(bytes, static_cast<std::uint64_t>(data.size()));
  append_little_endian(bytes, masked_crc32c(bytes));
  bytes += data;
  append_little_endian(bytes, masked_crc32c(data));
  return bytes;
}

/// Scalars of one step.
class Summary {
 public:
  Summary& scalar(std::string_view tag, double value) {
    if (std::isfinite(value)) message_.message(1, Message().text(1, tag).number(2, static_cast<float>(value)));
    return *this;
  }
  std::string record_at(std::int64_t step) const {
    if (message_.empty()) return "";
    return record(
        Message().number(1, seconds_since_1970()).integer(2, static_cast<std::uint64_t>(step)).message(5, message_));
  }

 private:
  Message message_;
};

std::string records_of(const StartEvent& event) {
  if (!event.resumed_from) return "";
  constexpr std::uint64_t kStart = 1;  // what was recorded from this step on is void
  return record(Message()
                    .number(1, seconds_since_1970())
                    .integer(2, static_cast<std::uint64_t>(*event.resumed_from) + 1)
                    .message(7, Message().integer(1, kStart)));
}

std::string records_of(const StepEvent& event) {
  return Summary()
      .scalar("train/loss", event.loss)
      .scalar("train/learning_rate", event.lr)
      .scalar("train/grad_norm", event.grad_norm)
      .scalar("train/lambda", event.lambda)
      .scalar("train/distance_norm", event.distance_norm)
      .scalar("train/staleness_price", event.staleness_price)
      .scalar("train/staleness_sharpness", event.staleness_sharpness)
      .scalar("speed/images_per_s", event.images_per_s)
      .scalar("speed/step_ms", event.step_ms)
      .scalar("speed/compute_ms", event.compute_ms)
      .scalar("speed/all_reduce_ms", event.all_reduce_ms)
      .scalar("speed/wait_ms", event.wait_ms)
      .scalar("speed/data_wait_ms", event.data_wait_ms)
      .scalar("speed/bad_images", static_cast<double>(event.bad_images))
      .scalar("speed/overlap", event.overlap)
      .record_at(event.step);
}

std::string records_of(const EvalEvent& event) {
  return Summary()
      .scalar("eval/top1", event.top1)
      .scalar("eval/top5", event.top5)
      .scalar("eval/loss", event.loss)
      .record_at(event.step);
}

std::string records_of(const CheckpointEvent& /*event*/) { return ""; }
std::string records_of(const EndEvent& /*event*/) { return ""; }

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc32c_table();
  std::uint32_t remainder = ~0U;
  for (const std::byte byte : bytes) {
    remainder = (remainder >> 8) ^ kTable[(remainder ^ static_cast<std::uint32_t>(byte)) & 0xFF];
  }
  return ~remainder;
}

TensorBoardWriter::TensorBoardWriter(const std::string& folder) : file_(event_file(folder)) {
  file_.append(record(Message().number(1, seconds_since_1970()).text(3, "brain.Event:2")));
}

void TensorBoardWriter::write(const Event& event) {
  const std::string records = std::visit([](const auto& e) { return records_of(e); }, event);
  if (!records.empty()) file_.append(records);
}

}  // namespace dcs3gd::app
