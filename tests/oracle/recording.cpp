#include "tests/oracle/recording.h"

#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::oracle {

Recording::Recording(const std::string& path) : path_(path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::input, format("{}: cannot be read; expected a recording", path));
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::istringstream words(line);
    std::string name;
    words >> name;
    std::vector<double> numbers;
    for (double number = 0; words >> number;) numbers.push_back(number);
    if (numbers.empty() || !words.eof()) {
      throw Error(ErrorKind::input, format("{}: expected a name and numbers, found '{}'", path, line));
    }
    add(name, std::move(numbers));
  }
}

double Recording::setting(const std::string& name) const {
  const auto line = lines_.find("setting." + name);
  if (line == lines_.end()) throw Error(ErrorKind::input, format("{}: no setting '{}'", path_, name));
  return line->second.front();
}

}  // namespace dcs3gd::oracle
