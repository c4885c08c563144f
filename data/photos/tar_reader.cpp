#include "data/photos/tar_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/lower_case.h"
#include "core/printable.h"
#include "data/photos/image_decoder.h"

namespace dcs3gd::data {
namespace {

constexpr std::uint64_t kBlockBytes = 512;
constexpr std::uint64_t kMaxNameBytes = 1U << 20U;  ///< of a long name or a pax header
constexpr std::uint64_t kMaxLabelBytes = 32;
constexpr std::size_t kMaxPrintedBytes = 200;

using Block = std::array<std::uint8_t, kBlockBytes>;

[[noreturn]] void refuse(const PositionedFile& tar, std::uint64_t at_byte, std::string_view what) {
  throw Error(ErrorKind::input, format("{}: at byte {}: {}", tar.path(), at_byte, what));
}

void read_into(const PositionedFile& tar, std::uint64_t offset, std::span<std::uint8_t> into) {
  const std::string problem = tar.try_read(offset, std::as_writable_bytes(into));
  if (!problem.empty()) refuse(tar, offset, problem);
}

std::vector<std::uint8_t> read_bytes(const PositionedFile& tar, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::uint8_t> content(bytes);
  read_into(tar, offset, content);
  return content;
}

/// Text from a file, safe to print and without zeros.
std::string shown(std::string_view text) { return printable(text.substr(0, kMaxPrintedBytes)); }

/// Up to the first zero.
std::string_view text_of(std::span<const std::uint8_t> field) {
  const auto end = std::ranges::find(field, 0);
  return {reinterpret_cast<const char*>(field.data()), static_cast<std::size_t>(end - field.begin())};
}

/// The whole text as a number; none if it is none.
std::optional<std::uint64_t> number_of(std::string_view text, int base) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

/// A field of a header: octal digits between spaces, or, as GNU tar writes large numbers, a bit and big-endian bytes.
std::optional<std::uint64_t> header_number(std::span<const std::uint8_t> field) {
  if (field[0] < 0x80) return number_of(trimmed(text_of(field)), 8);
  std::uint64_t number = field[0] & 0x7FU;
  for (const std::uint8_t byte : field.subspan(1)) {
    if (number > std::numeric_limits<std::uint64_t>::max() >> 8) return std::nullopt;
    number = number << 8 | byte;
  }
  return number;
}

/// The sum over the header, its own field taken for spaces.
std::uint64_t header_checksum(std::span<const std::uint8_t> block) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < block.size(); ++at) sum += at >= 148 && at < 156 ? std::uint8_t{' '} : block[at];
  return sum;
}

struct Member {
  std::uint64_t header = 0;  ///< where its header begins
  std::uint64_t offset = 0;  ///< of its content
  std::uint64_t bytes = 0;
  char type = 0;
  std::string name;
  bool begins_archive = false;  ///< it is the first after an end mark

  bool is_file() const { return type == '0' || type == '7'; }
};

/// Goes from header to header.
class TarWalk {
 public:
  explicit TarWalk(const PositionedFile& tar) : tar_(tar) {}

  /// The next member with the name and size that headers in front of it give it; none at the end of the file.
  std::optional<Member> next() {
    std::optional<std::string> long_name;
    std::optional<std::uint64_t> long_size;
    bool begins_archive = false;
    while (true) {
      std::optional<Member> member = read_header(long_size, begins_archive);
      if (!member) return member;
      switch (member->type) {
        case 'L':
          long_name = text_of(read_extension(*member));
          break;
        case 'x':
          read_pax(*member, long_name, long_size);
          break;
        case 'K':  // the name that a link leads to
        case 'g':  // pax, for all members: what it may say does not matter here
          break;
        case 'S':
        case 'M':
          refuse(tar_, member->header, "a sparse file or a part of several volumes; pack the files anew without");
        default:
          if (long_name) member->name = *long_name;
          member->begins_archive = begins_archive;
          return member;
      }
    }
  }

 private:
  std::optional<Member> read_header(const std::optional<std::uint64_t>& long_size, bool& begins_archive) {
    Block block{};
    while (true) {
      const std::uint64_t left = tar_.size() - std::min(at_, tar_.size());
      const std::span part = std::span(block).first(std::min(left, kBlockBytes));
      read_into(tar_, at_, part);
      const bool is_zero = std::ranges::all_of(part, [](std::uint8_t byte) { return byte == 0; });
      if (left < kBlockBytes && !(begins_archive && is_zero)) {
        refuse(tar_, tar_.size(), "the file ends without tar's end mark; it is cut off: fetch it again");
      }
      if (left < kBlockBytes) return std::nullopt;
      if (!is_zero) break;
      begins_archive = true;  // an end mark, and after it more zeros or, where files were put together, another archive
      at_ += kBlockBytes;
    }
    const std::span header(block);
    if (header_number(header.subspan(148, 8)) != header_checksum(header)) {
      refuse(tar_, at_, "expected a tar header, found something else (its checksum is wrong); the file is damaged");
    }
    Member member{.header = at_, .offset = at_ + kBlockBytes, .type = static_cast<char>(block[156])};
    member.name = text_of(header.first(100));
    const bool is_ustar = text_of(header.subspan(257, 6)) == "ustar";  // GNU's ends in a space and has no prefix
    if (const std::string_view prefix = text_of(header.subspan(345, 155)); is_ustar && !prefix.empty()) {
      member.name = format("{}/{}", prefix, member.name);
    }
    if (member.type == '\0') member.type = member.name.ends_with('/') ? '5' : '0';
    const bool has_content = member.type < '1' || member.type > '6';  // links, devices and folders have none
    if (has_content) {
      const bool is_extension = member.type == 'x' || member.type == 'g' || member.type == 'L' || member.type == 'K';
      const std::optional<std::uint64_t> bytes =
          long_size && !is_extension ? long_size : header_number(header.subspan(124, 12));
      if (!bytes) refuse(tar_, at_ + 124, "the size in a tar header is no number; the file is damaged");
      member.bytes = *bytes;
    }
    const std::uint64_t room = tar_.size() - member.offset;
    if (member.bytes > room) {
      refuse(tar_, at_,
             format("'{}' has {} bytes, the file only {} more; it is cut off: fetch it again", shown(member.name),
                    member.bytes, room));
    }
    at_ = member.offset + (member.bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    return member;
  }

  std::vector<std::uint8_t> read_extension(const Member& member) const {
    if (member.bytes > kMaxNameBytes) refuse(tar_, member.header, format("a name of {} bytes", member.bytes));
    return read_bytes(tar_, member.offset, member.bytes);
  }

  /// Records "LENGTH KEY=VALUE\n"; the length counts all of the record.
  void read_pax(const Member& member, std::optional<std::string>& name, std::optional<std::uint64_t>& size) const {
    const std::vector<std::uint8_t> content = read_extension(member);
    std::string_view rest(reinterpret_cast<const char*>(content.data()), content.size());
    while (!rest.empty()) {
      const std::size_t space = rest.find(' ');
      const std::optional<std::uint64_t> length = number_of(rest.substr(0, std::min(space, rest.size())), 10);
      if (!length || *length > rest.size() || *length < space + 2 || rest[*length - 1] != '\n') {
        refuse(tar_, member.offset + (content.size() - rest.size()), "a damaged pax header");
      }
      const std::string_view record = rest.substr(space + 1, *length - space - 2);
      const std::size_t equals = record.find('=');
      const std::string_view key = record.substr(0, equals);
      const std::string_view value = equals == std::string_view::npos ? "" : record.substr(equals + 1);
      if (key.starts_with("GNU.sparse")) refuse(tar_, member.header, "a sparse file; pack the files anew without");
      if (key == "path") name = value;
      if (key == "size") {
        size = number_of(value, 10);
        if (!size) refuse(tar_, member.header, "the size in a pax header is no number; the file is damaged");
      }
      rest.remove_prefix(*length);
    }
  }

  const PositionedFile& tar_;
  std::uint64_t at_ = 0;
};

/// A member's name in its two halves; both empty if it is no part of a sample.
struct SampleName {
  std::string_view key;
  std::string_view extension;
};

SampleName sample_name(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  const std::size_t base = slash == std::string_view::npos ? 0 : slash + 1;
  const std::size_t dot = name.find('.', base);
  if (dot == std::string_view::npos || dot == base) return {};
  return {.key = name.substr(0, dot), .extension = name.substr(dot + 1)};
}

/// Puts members together to samples.
class SampleBuilder {
 public:
  explicit SampleBuilder(const PositionedFile& tar) : tar_(tar) {}

  void add(const Member& member) {
    if (member.type == '5') return;
    const SampleName name = sample_name(member.name);
    const bool is_image = is_image_extension(name.extension);
    const bool is_label = lower_case(std::string(name.extension)) == "cls";
    if (member.is_file() && lower_case(std::string(name.extension)).ends_with(".cls")) {
      if (samples_.dotted_labels++ == 0) samples_.first_dotted_label = shown(member.name);
    }
    if (!member.is_file() || !(is_image || is_label)) {
      ++samples_.ignored;
      return;
    }
    if (name.key != key_ || member.begins_archive) {
      finish();
      key_ = name.key;
      begin_ = member.header;
    }
    if ((is_image && image_) || (is_label && label_)) {
      refuse(tar_, member.header, format("a second {} for the sample '{}'", is_image ? "image" : "label", shown_key()));
    }
    if (is_label) label_ = read_label(member);
    if (is_image) image_ = member;
  }

  TarSamples take() {
    finish();
    return std::move(samples_);
  }

 private:
  std::string shown_key() const { return shown(key_); }

  std::int32_t read_label(const Member& member) const {
    std::vector<std::uint8_t> content;
    if (member.bytes <= kMaxLabelBytes) content = read_bytes(tar_, member.offset, member.bytes);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    const std::optional<std::uint64_t> label = number_of(trimmed(text), 10);
    if (!label || *label >= static_cast<std::uint64_t>(kMaxTarClasses)) {
      refuse(tar_, member.offset,
             format("'{}': expected a class number from 0 to {}, found '{}'", shown(member.name), kMaxTarClasses - 1,
                    shown(text)));
    }
    return static_cast<std::int32_t>(*label);
  }

  void finish() {
    if (!image_ && !label_) return;
    if (!image_ || !label_) {
      refuse(tar_, begin_,
             format("the sample '{}' has {}; each needs a .jpg or .png and a .cls, one after the other "
                    "(tar --sort=name)",
                    shown_key(), image_ ? "no label" : "no image"));
    }
    if (image_->bytes > std::numeric_limits<std::uint32_t>::max()) {
      refuse(tar_, image_->header, format("'{}' has {} bytes, too many", shown(image_->name), image_->bytes));
    }
    samples_.index.records.push_back(
        {.offset = image_->offset, .bytes = static_cast<std::uint32_t>(image_->bytes), .label = *label_});
    samples_.index.names += shown(image_->name) + '\0';
    image_.reset();
    label_.reset();
  }

  const PositionedFile& tar_;
  TarSamples samples_;
  // The sample at work.
  std::string key_;
  std::uint64_t begin_ = 0;
  std::optional<Member> image_;
  std::optional<std::int32_t> label_;
};

}  // namespace

TarSamples index_tar(const PositionedFile& tar, const std::function<void()>& on_member) {
  TarWalk walk(tar);
  SampleBuilder samples(tar);
  while (const std::optional<Member> member = walk.next()) {
    samples.add(*member);
    on_member();
  }
  return samples.take();
}

std::vector<TarImage> images_in_tar(const PositionedFile& tar) {
  TarWalk walk(tar);
  std::vector<TarImage> images;
  while (const std::optional<Member> member = walk.next()) {
    const bool is_image = is_image_extension(std::string_view(member->name).substr(member->name.rfind('.') + 1));
    if (member->is_file() && is_image) images.push_back({member->name, member->offset, member->bytes});
  }
  return images;
}

std::string dotted_labels_problem(const TarSamples& samples) {
  if (samples.dotted_labels == 0) return "";
  return format(
      "{} labels such as '{}' belong to no image: a name is split at its first dot, so that what comes before "
      "it would have to be the sample's; rename the files",
      samples.dotted_labels, samples.first_dotted_label);
}

}  // namespace dcs3gd::data
