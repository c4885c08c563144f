#include "tests/data/tar_file.h"

#include <algorithm>
#include <cstdio>

namespace dcs3gd::data {
namespace {

constexpr std::size_t kBlockBytes = 512;

/// Octal digits and a zero, as long as the field.
void set_number(std::span<std::uint8_t> field, unsigned long number) {
  for (std::size_t at = field.size() - 1; at > 0; --at, number /= 8) {
    field[at - 1] = static_cast<std::uint8_t>('0' + number % 8);
  }
}

}  // namespace

void set_tar_checksum(std::span<std::uint8_t> header) {
  const std::span field = header.subspan(148, 8);
  std::ranges::fill(field, ' ');
  unsigned long sum = 0;
  for (const std::uint8_t byte : header.first(kBlockBytes)) sum += byte;
  set_number(field.first(7), sum);
  field[6] = 0;
}

std::vector<std::uint8_t> tar_member(const std::string& name, std::span<const std::uint8_t> content, char type) {
  std::vector<std::uint8_t> member(kBlockBytes);
  std::copy_n(name.begin(), std::min<std::size_t>(name.size(), 100), member.begin());
  set_number(std::span(member).subspan(124, 12), content.size());
  member[156] = static_cast<std::uint8_t>(type);
  const std::string magic("ustar\00000", 8);
  std::ranges::copy(magic, member.begin() + 257);
  set_tar_checksum(member);
  member.insert(member.end(), content.begin(), content.end());
  member.resize((member.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
  return member;
}

std::vector<std::uint8_t> tar_member(const std::string& name, const std::string& content, char type) {
  return tar_member(name, std::span(reinterpret_cast<const std::uint8_t*>(content.data()), content.size()), type);
}

std::vector<std::uint8_t> tar_file(const std::vector<std::vector<std::uint8_t>>& members) {
  std::vector<std::uint8_t> file;
  for (const std::vector<std::uint8_t>& member : members) file.insert(file.end(), member.begin(), member.end());
  file.resize(file.size() + 2 * kBlockBytes);
  return file;
}

}  // namespace dcs3gd::data
