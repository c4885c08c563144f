#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// YAML as a plain tree that forgets nothing a strict reader needs: positions of keys, duplicates, quotes.
namespace dcs3gd::app {

/// Both count from 1; columns count bytes.
struct YamlPosition {
  int line = 1;
  int column = 1;
};

struct YamlEntry;

struct YamlValue {
  enum class Kind { null, plain, quoted, list, map };

  Kind kind = Kind::null;
  std::string text;                ///< of plain and quoted scalars, as written (escapes resolved)
  std::vector<YamlValue> items;    ///< of a list
  std::vector<YamlEntry> entries;  ///< of a map, in the order of the text, duplicates included
};

struct YamlEntry {
  std::string key;
  YamlPosition position;  ///< of the key
  YamlValue value;
};

struct YamlProblem {
  YamlPosition position;
  std::string what;
};

/// What was read, or the first thing that cannot be read.
struct YamlDocument {
  YamlValue root;  ///< null for an empty text
  std::optional<YamlProblem> problem;
};

/// Reads one YAML document. Safe with hostile text: what is no UTF-8, nested too deep or larger than a configuration
/// can be is a problem, and so are anchors, aliases and tags, which a configuration does not need.
YamlDocument parse_yaml(std::string_view text);

/// The longest text that parse_yaml() accepts.
constexpr std::size_t kMaxYamlBytes = 1U << 20U;

/// A value for a message: on one line, shortened, without control characters.
std::string describe(const YamlValue& value);
/// The same for a piece of text, such as a key.
std::string shortened(std::string_view text);

}  // namespace dcs3gd::app
