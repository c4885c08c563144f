#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace dcs3gd::app {

/// A message in Protocol Buffers' encoding, field by field (protobuf.dev/programming-guides/encoding): all that writing
/// takes. Fields may come in any order and repeat.
class ProtobufMessage {
 public:
  void add(int field, std::int64_t value) {
    add_key(field, kVarint);
    add_varint(static_cast<std::uint64_t>(value));
  }
  void add(int field, float value) {
    add_key(field, kFixed32);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xFFU);
  }
  void add(int field, std::string_view bytes) {
    add_key(field, kLengthDelimited);
    add_varint(bytes.size());
    bytes_ += bytes;
  }
  void add(int field, const ProtobufMessage& message) { add(field, std::string_view(message.bytes_)); }

  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr std::uint64_t kVarint = 0;
  static constexpr std::uint64_t kLengthDelimited = 2;
  static constexpr std::uint64_t kFixed32 = 5;

  void add_key(int field, std::uint64_t wire_type) { add_varint(static_cast<std::uint64_t>(field) << 3 | wire_type); }
  void add_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace dcs3gd::app
