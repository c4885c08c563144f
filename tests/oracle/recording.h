#pragma once

#include <map>
#include <string>
#include <vector>

namespace dcs3gd::oracle {

/// Named lists of numbers: the settings of a training run and what came of it. As text one list a line; lines that
/// start with # are comments.
class Recording {
 public:
  Recording() = default;
  /// Throws Error{input} for a file that cannot be read.
  explicit Recording(const std::string& path);

  const std::map<std::string, std::vector<double>>& lines() const { return lines_; }
  void add(const std::string& name, std::vector<double> numbers) { lines_[name] = std::move(numbers); }
  /// Throws Error{input} if it is not there.
  double setting(const std::string& name) const;
  int integer_setting(const std::string& name) const { return static_cast<int>(setting(name)); }

 private:
  std::string path_;
  std::map<std::string, std::vector<double>> lines_;
};

}  // namespace dcs3gd::oracle
