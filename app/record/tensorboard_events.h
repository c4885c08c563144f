#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "app/record/metrics.h"
#include "core/files.h"

namespace dcs3gd::app {

/// CRC-32C (Castagnoli) of the bytes, as TFRecord files have it before masking.
std::uint32_t crc32c(std::span<const std::byte> bytes);

/// The numbers of a run for TensorBoard: an event file beside metrics.jsonl, with a scalar for each number of a step
/// (train/loss, train/learning_rate, speed/images_per_s, …) and of an evaluation (eval/top1, …). Numbers that are null
/// in metrics.jsonl are left out. Every start of a run has its own file; that of a resumed run tells TensorBoard to
/// forget the steps after the checkpoint.
///
/// The format: each record is a TFRecord: its length (8 bytes), masked CRC-32C of the length, the data, masked CRC-32C
/// of the data, all little-endian; the data is a protobuf message Event {double wall_time = 1; int64 step = 2;
/// string file_version = 3; Summary summary = 5; SessionLog session_log = 7}, with Summary {repeated Value value = 1},
/// Value {string tag = 1; float simple_value = 2} and SessionLog {enum status = 1}. The first event has file_version
/// alone.
class TensorBoardWriter {
 public:
  /// Creates `<folder>/events.out.tfevents.<seconds since 1970>.<host>.<process>`. Throws Error{failure} if it cannot.
  explicit TensorBoardWriter(const std::string& folder);

  /// Whole records, at once. On a full disk they are lost, and one warning says so.
  void write(const Event& event);

 private:
  AppendedFile file_;
};

}  // namespace dcs3gd::app
