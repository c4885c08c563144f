#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "app/config/configuration.h"
#include "app/record/metrics.h"
#include "core/files.h"

namespace dcs3gd::app {

/// CRC-32C (Castagnoli) of the bytes, as TFRecord files have it before masking.
std::uint32_t crc32c(std::span<const std::byte> bytes);

/// The numbers of a run for TensorBoard: an event file beside metrics.jsonl with its scalars (scalars.h), and the
/// settings that decide how well it learns, with which TensorBoard's HParams page compares runs by their last numbers.
/// Every start of a run has its own file; that of a resumed run tells TensorBoard to forget the steps after the
/// checkpoint.
///
/// The format: each record is a TFRecord: its length (8 bytes), masked CRC-32C of the length, the data, masked CRC-32C
/// of the data, all little-endian; the data is a protobuf message Event {double wall_time = 1; int64 step = 2;
/// string file_version = 3; Summary summary = 5; SessionLog session_log = 7}, with Summary {repeated Value value = 1},
/// Value {string tag = 1; float simple_value = 2} and SessionLog {enum status = 1}. The first event has file_version
/// alone. Settings are in the metadata of a value without a number: {plugin_data = 1: {plugin_name = 1: "hparams",
/// content = 2: HParamsPluginData}, data_class = 4: tensor}, as tensorboard/plugins/hparams/plugin_data.proto has it:
/// tag _hparams_/session_start_info with SessionStartInfo = 3 {map<string, Value> hparams = 1; start_time_secs = 5},
/// and at the end session_end_info with SessionEndInfo = 4 {enum status = 1; double end_time_secs = 2}.
class TensorBoardWriter {
 public:
  /// Creates `<folder>/events.out.tfevents.<seconds since 1970>.<host>.<process>`. Throws Error{failure} if it cannot.
  TensorBoardWriter(const std::string& folder, const Settings& settings);

  /// Whole records, at once. On a full disk they are lost, and one warning says so.
  void write(const Event& event);

 private:
  void append_session_end(const EndEvent& event);

  AppendedFile file_;
  std::int64_t step_ = 0;  ///< of the last event that had one
};

}  // namespace dcs3gd::app
