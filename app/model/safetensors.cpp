#include "app/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/bf16.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/printable.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data are little endian and copied as they are");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::size_t kMaxDimensions = 64;              // of a tensor; PyTorch's limit
constexpr std::size_t kMaxKeys = 10'000;                // of an object below the header; __metadata__ may have many
constexpr std::uint64_t kDataAlignment = 8;             // of the data in files we write, by padding the header
constexpr std::size_t kMaxListed = 10;                  // lines of a kind of difference that a message shows
constexpr std::size_t kMaxPrintedBytes = 200;           // of a name, in messages
constexpr const char* kMetadataKey = "__metadata__";
constexpr std::string_view kIgnoredSuffix = "num_batches_tracked";

struct DtypeSize {
  std::string_view dtype;
  std::uint64_t bytes;
};
constexpr DtypeSize kDtypeSizes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"U16", 2},
                                     {"I16", 2},  {"F16", 2}, {"BF16", 2}, {"U32", 4},     {"I32", 4},     {"F32", 4},
                                     {"U64", 8},  {"I64", 8}, {"F64", 8},  {"C64", 8}};

/// A name from a file as it may stand in a message, cut to a sensible length.
std::string shown(std::string_view name) { return format("\"{}\"", printable(name.substr(0, kMaxPrintedBytes))); }

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::input, reason); }

/// PyTorch's own files, zip archives and before those pickles, are the first thing that is tried: what to do, else
/// empty.
std::string pth_hint(const std::string& path, std::uint64_t header_bytes) {
  constexpr std::uint32_t kZip = 0x04034B50;
  constexpr std::uint32_t kPickle = 0x0A8A0280;
  const auto begin = static_cast<std::uint32_t>(header_bytes);
  if (begin == kPickle)
    return "; it looks like PyTorch's form before version 1.6: load it with PyTorch and save it anew";
  if (begin != kZip) return "";
  return format(
      "; it looks like PyTorch's own form: convert it with scripts/convert_weights.py (installed: "
      "dcs3gd-convert-weights) {} NAME.safetensors",
      path);
}

/// Turns the JSON header into entries, one tensor object at a time: each is dropped from the document as soon as it is
/// understood, so that memory stays within a small multiple of the header's size whatever it says.
class HeaderReader {
 public:
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

  void read(const std::string& text) {
    if (!text.starts_with('{')) refuse("the header is not a JSON object");
    const auto reader = [this](int depth, Event event, const Json& parsed) { return on(depth, event, parsed); };
    const Json rest = Json::parse(text, reader);  // {}: all members were dropped
  }

 private:
  using Event = Json::parse_event_t;

  /// What the parser meets, with the number of objects and arrays around it. False drops a finished value.
  bool on(int depth, Event event, const Json& parsed) {
    if ((event == Event::object_start && depth > 1) || (event == Event::array_start && depth != 2) ||
        (event == Event::value && depth < 2)) {
      refuse(format("{}: expected an object of strings and arrays of numbers", shown(name_)));
    }
    if (event == Event::key && depth == 1) begin_member(parsed.get<std::string>());
    if (event == Event::key && depth == 2) check_key(parsed.get<std::string>());
    if (event == Event::array_start) array_size_ = 0;
    if (event == Event::value && depth == 3 && ++array_size_ > kMaxDimensions) {
      refuse(format("{}: an array of more than {} numbers", shown(name_), kMaxDimensions));
    }
    if (event == Event::object_end && depth == 1) {
      end_member(parsed);
      return false;
    }
    return true;
  }

  void begin_member(std::string name) {
    name_ = std::move(name);
    keys_.clear();
    if (!names_.insert(name_).second) refuse(format("the name {} stands twice", shown(name_)));
  }

  void check_key(const std::string& key) {
    if (!keys_.insert(key).second) {
      refuse(format("{}: the key {} stands twice", shown(name_), shown(key)));
    }
    if (keys_.size() > kMaxKeys) refuse(format("{}: more than {} keys", shown(name_), kMaxKeys));
  }

  void end_member(const Json& object) {
    if (name_ == kMetadataKey) {
      for (const auto& [key, value] : object.items()) {
        if (!value.is_string()) refuse(format("{}: {} is not a string", kMetadataKey, shown(key)));
        metadata.emplace(key, value.get<std::string>());
      }
    } else {
      entries.push_back(to_entry(object));
    }
  }

  SafetensorsEntry to_entry(const Json& object) const {
    if (object.size() != 3 || !object.contains("dtype") || !object.contains("shape") ||
        !object.contains("data_offsets")) {
      refuse(format("{}: expected the keys dtype, shape and data_offsets, and no other", shown(name_)));
    }
    if (!object["dtype"].is_string()) refuse(format("{}: dtype is not a string", shown(name_)));
    SafetensorsEntry entry{name_, object["dtype"].get<std::string>(), Shape(numbers(object, "shape")), 0, 0};
    const std::vector<std::int64_t> offsets = numbers(object, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) {
      refuse(format("{}: data_offsets is not a pair [begin, end]", shown(name_)));
    }
    entry.begin = static_cast<std::uint64_t>(offsets[0]);
    entry.bytes = static_cast<std::uint64_t>(offsets[1]) - entry.begin;
    check_size(entry);
    return entry;
  }

  std::vector<std::int64_t> numbers(const Json& object, const char* key) const {
    const Json& array = object[key];
    constexpr auto kMaxNumber = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const auto fits = [&](const Json& n) { return n.is_number_unsigned() && n.get<std::uint64_t>() <= kMaxNumber; };
    if (!array.is_array() || !std::all_of(array.begin(), array.end(), fits)) {
      refuse(format("{}: {} is not an array of whole numbers ≥ 0", shown(name_), key));
    }
    return array.get<std::vector<std::int64_t>>();
  }

  static void check_size(const SafetensorsEntry& entry) {
    const auto* const size = std::ranges::find(kDtypeSizes, entry.dtype, &DtypeSize::dtype);
    if (size == std::end(kDtypeSizes)) {
      refuse(format("{}: unknown dtype {}", shown(entry.name), shown(entry.dtype)));
    }
    std::uint64_t bytes = size->bytes;
    bool overflow = false;
    for (const std::int64_t dim : entry.shape.dims()) {
      overflow |= __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dim), &bytes);
    }
    if (overflow) refuse(format("{}: its shape has more elements than can be counted", shown(entry.name)));
    if (bytes != entry.bytes) {
      refuse(format("{}: dtype and shape make {} bytes, data_offsets {}", shown(entry.name), bytes, entry.bytes));
    }
  }

  std::string name_;                       // of the member being read
  std::size_t array_size_ = 0;             // of the array being read, so far
  std::unordered_set<std::string> names_;  // of all members so far
  std::set<std::string> keys_;             // of this member so far
};

/// Sorts the entries by their place and checks that they cover the data from the first byte to the last, each byte
/// once.
void check_coverage(std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes) {
  std::ranges::sort(entries, {}, [](const auto& entry) { return std::tie(entry.begin, entry.bytes); });
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end) {
      refuse(
          format("{}: its data begin at byte {}, those before it end at byte {}", shown(entry.name), entry.begin, end));
    }
    end += entry.bytes;  // the end in its data_offsets, so below 2^63
  }
  if (end != data_bytes) {
    refuse(format("the header describes {} bytes of data, the file has {}: it is cut off or damaged", end, data_bytes));
  }
}

/// Whether `name` is the module or tensor `prefix` or stands below it: "fc" covers "fc.weight" but not "fc2.weight".
bool is_below(std::string_view name, std::string_view prefix) {
  if (prefix.ends_with('.')) prefix.remove_suffix(1);
  return name.starts_with(prefix) && (name.size() == prefix.size() || name[prefix.size()] == '.');
}

/// What wrappers put before the names of a model's tensors: DistributedDataParallel and averaged models, Lightning and
/// timm, torch.compile.
constexpr std::string_view kWrapperPrefixes[] = {"module.", "model.", "_orig_mod."};

/// The prefixes of wrappers that all names of the file have and those of the model have not.
std::string wrapper_prefix(const SafetensorsFile& file, const std::vector<ArenaPart<ParameterArena>>& arenas) {
  std::string prefix;
  const auto all_begin_with = [&](const std::string& begin) {
    return std::ranges::all_of(file.entries(), [&](const auto& entry) { return entry.name.starts_with(begin); });
  };
  const auto model_has = [&](std::string_view begin) {
    return std::ranges::any_of(arenas, [&](const auto& part) {
      return std::ranges::any_of(part.arena->layout().slices(), [&](const ParameterSlice& slice) {
        return (part.prefix + slice.name).starts_with(begin);
      });
    });
  };
  for (bool found = !file.entries().empty(); found;) {
    found = false;
    for (const std::string_view wrapper : kWrapperPrefixes) {
      if (model_has(wrapper) || !all_begin_with(prefix + std::string(wrapper))) continue;
      prefix += wrapper;
      found = true;
    }
  }
  return prefix;
}

float from_half(std::uint16_t half) {
  const float sign = (half & 0x8000U) != 0 ? -1.0F : 1.0F;
  const unsigned exponent = half >> 10U & 0x1FU;
  const auto fraction = static_cast<float>(half & 0x3FFU);
  if (exponent == 0x1F) return fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * HUGE_VALF;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
}

float from_bf16(Bf16 value) { return to_float(value); }

float from_double(double value) { return static_cast<float>(value); }

std::string described(const SafetensorsEntry& entry) { return entry.dtype + " " + entry.shape.to_string(); }

std::string described(const ParameterSlice& slice) { return "F32 " + slice.shape.to_string(); }

/// Where a tensor of the file goes.
struct Assignment {
  const SafetensorsEntry* entry;
  std::span<float> values;
};

/// Matches the tensors of a file with those of a model and gathers what does not fit.
class Matching {
 public:
  Matching(const SafetensorsFile& file, const std::vector<ArenaPart<ParameterArena>>& arenas,
           const std::vector<std::string>& skipped_prefixes)
      : wrapper_(wrapper_prefix(file, arenas)),
        prefixes_(skipped_prefixes),
        prefix_used_(skipped_prefixes.size(), false) {
    for (const SafetensorsEntry& entry : file.entries()) {
      const std::string_view name = name_of(entry);
      if (!name.ends_with(kIgnoredSuffix) && !is_skipped(name)) unclaimed_.emplace(name, &entry);
    }
    for (const auto& [arena, prefix] : arenas) {
      for (const ParameterSlice& slice : arena->layout().slices()) {
        const std::string name = prefix + slice.name;
        if (!is_skipped(name)) claim(name, slice, arena->slice(slice));
      }
    }
    for (const SafetensorsEntry& entry : file.entries()) {
      if (unclaimed_.contains(name_of(entry))) {
        unknown_.push_back(format("not in the model: {} ({})", shown(entry.name), described(entry)));
      }
    }
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      if (!prefix_used_[i]) different_.push_back(format("prefix to skip that stands for nothing: '{}'", prefixes_[i]));
    }
  }

  /// Throws Error{input} unless everything fits; shows some of each kind, for a name of one side explains the other's.
  void refuse_differences(const SafetensorsFile& file) const {
    const auto model = file.metadata().find("model");
    const std::string held =
        model == file.metadata().end() ? "" : ", it says that it holds " + printable(model->second);
    std::string message = format("{} does not fit the model{}:", file.path(), held);
    std::size_t left = 0;
    for (const std::vector<std::string>* differences : {&different_, &missing_, &unknown_}) {
      const std::size_t shown = std::min(differences->size(), kMaxListed);
      for (std::size_t i = 0; i < shown; ++i) message += "\n  " + (*differences)[i];
      left += differences->size();
      if (differences->size() > shown) message += format("\n  and {} more of this kind", differences->size() - shown);
    }
    if (left == 0) return;
    message +=
        "\nUse the weights of the same model; for other classes set model.init_classifier: new, and list other "
        "modules that may differ in model.init_skip";
    refuse(message);
  }

  const std::string& wrapper() const { return wrapper_; }

  const std::vector<Assignment>& assignments() const { return assignments_; }

 private:
  /// As the model would call it.
  std::string_view name_of(const SafetensorsEntry& entry) const {
    return std::string_view(entry.name).substr(wrapper_.size());
  }

  bool is_skipped(std::string_view name) {
    bool skipped = false;
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      if (!is_below(name, prefixes_[i])) continue;
      prefix_used_[i] = true;
      skipped = true;
    }
    return skipped;
  }

  void claim(const std::string& name, const ParameterSlice& slice, std::span<float> values) {
    const auto found = unclaimed_.find(name);
    if (found == unclaimed_.end()) {
      missing_.push_back(format("missing in the file: {} ({})", shown(name), described(slice)));
      return;
    }
    const SafetensorsEntry* entry = found->second;
    unclaimed_.erase(found);
    if (is_float(entry->dtype) && entry->shape == slice.shape) {
      assignments_.push_back({entry, values});
    } else {
      different_.push_back(
          format("different: {}: file {}, model {}", shown(name), described(*entry), described(slice)));
    }
  }

  const std::string wrapper_;
  const std::vector<std::string>& prefixes_;
  std::vector<bool> prefix_used_;
  std::unordered_map<std::string_view, const SafetensorsEntry*> unclaimed_;
  std::vector<Assignment> assignments_;
  // What does not fit, in words.
  std::vector<std::string> different_;
  std::vector<std::string> missing_;
  std::vector<std::string> unknown_;
};

/// Says which tensors were no F32.
void log_conversions(const std::string& path, const Matching& matching) {
  std::map<std::string, std::size_t> converted;
  for (const Assignment& assignment : matching.assignments()) {
    if (assignment.entry->dtype != "F32") ++converted[assignment.entry->dtype];
  }
  for (const auto& [dtype, tensors] : converted) {
    log::info(format("{}: {} tensors of {} taken as F32, {}", path, tensors, dtype,
                     dtype == "F64" ? "rounded" : "the same numbers"));
  }
  if (!matching.wrapper().empty()) log::info(format("{}: '{}' taken off all names", path, matching.wrapper()));
}

/// The JSON header of the arenas, padded with spaces so that the data after it are aligned.
std::string make_header(const std::vector<ArenaPart<const ParameterArena>>& arenas,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::size_t arena_begin = 0;
  for (const auto& [arena, prefix] : arenas) {
    for (const ParameterSlice& slice : arena->layout().slices()) {
      const std::size_t begin = arena_begin + slice.offset * sizeof(float);
      header[prefix + slice.name] = {{"dtype", "F32"},
                                     {"shape", slice.shape.dims()},
                                     {"data_offsets", {begin, begin + slice.count * sizeof(float)}}};
    }
    arena_begin += arena->values().size_bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment, ' ');
  return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(open_file(path)) {
  try {
    if (file_.size() < kLengthBytes) refuse(format("{} bytes are too few for a header", file_.size()));
    std::uint64_t header_bytes = 0;
    file_.read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
    if (header_bytes > kMaxHeaderBytes || header_bytes > file_.size() - kLengthBytes) {
      refuse(format("a header of {} bytes does not fit in the file's {} (limit {}){}", header_bytes, file_.size(),
                    kMaxHeaderBytes, pth_hint(path, header_bytes)));
    }
    std::string text(header_bytes, '\0');
    file_.read(kLengthBytes, std::as_writable_bytes(std::span(text)));
    HeaderReader header;
    header.read(text);
    data_begin_ = kLengthBytes + header_bytes;
    check_coverage(header.entries, file_.size() - data_begin_);
    entries_ = std::move(header.entries);
    metadata_ = std::move(header.metadata);
  } catch (const Json::exception&) {
    refuse(format("{} is not a valid safetensors file: the header is not JSON", path));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    refuse(format("{} is not a valid safetensors file: {}", path, error.what()));
  }
}

void SafetensorsFile::read(const SafetensorsEntry& entry, std::span<float> values) const {
  const auto convert = [&]<typename Stored>(float (*to_float)(Stored)) {
    std::vector<Stored> stored(values.size());
    file_.read(data_begin_ + entry.begin, std::as_writable_bytes(std::span(stored)));
    std::ranges::transform(stored, values.begin(), to_float);
  };
  const std::uint64_t bytes = entry.dtype == "F32" ? 4 : entry.dtype == "F64" ? 8 : 2;
  if (!is_float(entry.dtype) || entry.bytes != values.size() * bytes) {
    throw Error(ErrorKind::failure, format("{}: read of {} into {} floats", path(), described(entry), values.size()));
  }
  if (entry.dtype == "F16") return convert(from_half);
  if (entry.dtype == "BF16") return convert(from_bf16);
  if (entry.dtype == "F64") return convert(from_double);
  file_.read(data_begin_ + entry.begin, std::as_writable_bytes(values));
}

bool is_float(std::string_view dtype) { return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64"; }

void load_safetensors(const std::string& path, const std::vector<ArenaPart<ParameterArena>>& arenas,
                      const std::vector<std::string>& skipped_prefixes) {
  const SafetensorsFile file(path);
  const Matching matching(file, arenas, skipped_prefixes);
  matching.refuse_differences(file);
  log_conversions(path, matching);
  for (const auto& [entry, values] : matching.assignments()) {
    file.read(*entry, values);
    if (!std::isfinite(squared_norm(values))) {
      refuse(format("{}: {} holds NaN or Inf; a network with it cannot be trained", path, shown(entry->name)));
    }
  }
}

FileDigest save_safetensors(const std::string& path, const std::vector<ArenaPart<const ParameterArena>>& arenas,
                            const std::map<std::string, std::string>& metadata) {
  const std::string header = make_header(arenas, metadata);
  const std::uint64_t header_bytes = header.size();
  AtomicFile file(path);
  FileDigest digest;
  StreamingHash hash;
  const auto write = [&](std::span<const std::byte> bytes) {
    file.write(bytes);
    hash.add(bytes);
    digest.bytes += bytes.size();
  };
  write(std::as_bytes(std::span(&header_bytes, 1)));
  write(std::as_bytes(std::span(header)));
  for (const auto& [arena, prefix] : arenas) write(std::as_bytes(arena->values()));
  file.commit();
  digest.hash = hash.value();
  return digest;
}

}  // namespace dcs3gd::app
