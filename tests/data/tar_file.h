#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// Tar files for tests, written by code.
namespace dcs3gd::data {

/// One member: its header, in ustar's form, and its content, filled up to whole blocks.
std::vector<std::uint8_t> tar_member(const std::string& name, std::span<const std::uint8_t> content, char type = '0');
std::vector<std::uint8_t> tar_member(const std::string& name, const std::string& content, char type = '0');

/// Sets the checksum of a header of 512 bytes.
void set_tar_checksum(std::span<std::uint8_t> header);

/// Members one after the other, and the end mark.
std::vector<std::uint8_t> tar_file(const std::vector<std::vector<std::uint8_t>>& members);

}  // namespace dcs3gd::data
