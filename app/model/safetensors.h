#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/files.h"
#include "core/parameter_arena.h"
#include "core/shape.h"

/// The safetensors format, with which weights travel to and from PyTorch by name: a length (8 bytes, little endian), a
/// JSON header {name: {dtype, shape, data_offsets}}, then the data of all tensors without gaps. Nothing in a file is
/// executed or believed: every number is checked against the file's size before it is used.
namespace dcs3gd::app {

/// One tensor of a file.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  ///< the format's word: "F32", "I64", …
  Shape shape;
  std::uint64_t begin = 0;  ///< first byte, from the start of the data
  std::uint64_t bytes = 0;
};

/// An open file whose header was read and found sound. Reads may come from several threads.
class SafetensorsFile {
 public:
  /// Throws Error{input} for anything that is not a whole, well-formed safetensors file.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// In the order of the data.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  /// The strings under "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Copies the values of a tensor of floats (is_float()); `values` has as many elements as the entry. F16 and BF16
  /// become the same numbers, F64 the nearest.
  void read(const SafetensorsEntry& entry, std::span<float> values) const;

 private:
  PositionedFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
  std::uint64_t data_begin_ = 0;
};

/// Whether a dtype can be read as floats.
bool is_float(std::string_view dtype);

/// An arena in a file, its tensors' names with a prefix: "update." and the like tell twins apart.
template <typename Arena>
struct ArenaPart {
  ArenaPart(Arena* values, std::string name_prefix = "") : arena(values), prefix(std::move(name_prefix)) {}

  Arena* arena;
  std::string prefix;
};

/// What tells a file's content from any other.
struct FileDigest {
  std::uint64_t bytes = 0;
  std::uint64_t hash = 0;  ///< core/hash.h

  bool operator==(const FileDigest&) const = default;
};

/// Fills the arenas (weights and running statistics of one model, say) by name from a file with the same tensors, in
/// any type of floats; another than F32 is said in the log. "module.", "model." and the like before all names of the
/// file, which wrappers of PyTorch leave there, are taken off, and that is said. Tensors called "….num_batches_tracked"
/// are passed over: PyTorch has them, the update rule does not need them.
///
/// `skipped_prefixes` names modules to leave as they are, such as "fc" or "layer4.0": tensors of that name or below it
/// are not looked at, whether the file has them or not. Every other tensor must be in both with the same shape.
///
/// Throws Error{input} that lists all missing, unknown and differing tensors and prefixes that stand for nothing,
/// before any value is changed; and one for NaN or Inf, after which the values of the arenas are unspecified.
void load_safetensors(const std::string& path, const std::vector<ArenaPart<ParameterArena>>& arenas,
                      const std::vector<std::string>& skipped_prefixes = {});

/// Writes the arenas, F32, one after the other, atomically (core/files.h), and returns what was written. No name
/// stands in two of them. Throws Error{failure} if the file cannot be written.
FileDigest save_safetensors(const std::string& path, const std::vector<ArenaPart<const ParameterArena>>& arenas,
                            const std::map<std::string, std::string>& metadata = {});

}  // namespace dcs3gd::app
