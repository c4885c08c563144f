#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

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
    add_little_endian(std::bit_cast<std::uint32_t>(value));
  }
  void add(int field, double value) {
    add_key(field, kFixed64);
    add_little_endian(std::bit_cast<std::uint64_t>(value));
  }
  void add(int field, std::string_view bytes) {
    add_key(field, kLengthDelimited);
    add_varint(bytes.size());
    bytes_ += bytes;
  }
  void add(int field, const ProtobufMessage& message) { add(field, std::string_view(message.bytes_)); }

  /// The message with a field more, for those that are built in one expression.
  template <typename Value>
  ProtobufMessage&& with(int field, const Value& value) && {
    add(field, value);
    return std::move(*this);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr std::uint64_t kVarint = 0;
  static constexpr std::uint64_t kFixed64 = 1;
  static constexpr std::uint64_t kLengthDelimited = 2;
  static constexpr std::uint64_t kFixed32 = 5;

  void add_key(int field, std::uint64_t wire_type) { add_varint(static_cast<std::uint64_t>(field) << 3 | wire_type); }
  void add_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  template <typename Bits>
  void add_little_endian(Bits bits) {
    for (std::size_t i = 0; i < sizeof(Bits); ++i) bytes_ += static_cast<char>(bits >> 8 * i & 0xFFU);
  }

  std::string bytes_;
};

}  // namespace dcs3gd::app
