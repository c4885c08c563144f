#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/temporary_folder.h"

namespace dcs3gd::test {

/// A /proc and /sys of its own, whose files a test writes.
class SystemFiles {
 public:
  void write(const std::string& path, const std::string& content) const {
    const std::filesystem::path file = std::filesystem::path(root()) / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content << '\n';
  }
  std::string root() const { return folder_ / ""; }

 private:
  TemporaryFolder folder_;
};

}  // namespace dcs3gd::test
