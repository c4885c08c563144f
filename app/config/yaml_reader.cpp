#include "app/config/yaml_reader.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxShownBytes = 80;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

YamlPosition position_of(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

std::string_view line_at(std::string_view text, int line) {
  for (int passed = 1; passed < line; ++passed) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  return text.substr(0, text.find('\n'));
}

/// Bytes of the UTF-8 character that `text` begins with, 0 if it begins with none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(i < text.size() ? text[i] : 0); };
  const auto continues = [&](std::size_t i, std::uint8_t low = 0x80, std::uint8_t high = 0xBF) {
    return byte(i) >= low && byte(i) <= high;
  };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const std::uint8_t low = first == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const std::uint8_t high = first == 0xED ? 0x9F : 0xBF;  // no surrogates
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const std::uint8_t low = first == 0xF0 ? 0x90 : 0x80;   // no overlong forms
    const std::uint8_t high = first == 0xF4 ? 0x8F : 0xBF;  // nothing above U+10FFFF
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

bool is_control(char c) { return static_cast<std::uint8_t>(c) < 0x20 || c == 0x7F; }

/// The first byte that no text file has.
std::optional<YamlProblem> find_bad_byte(std::string_view text) {
  YamlPosition position;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (is_control(c) && c != '\n' && c != '\r' && c != '\t') {
      return YamlProblem{position, format("not a text file: found the control character 0x{:02X}", c)};
    }
    const std::size_t length = utf8_length(text.substr(at));
    if (length == 0) {
      return YamlProblem{position, format("not UTF-8 text: found the byte 0x{:02X}", static_cast<std::uint8_t>(c))};
    }
    position = c == '\n' ? YamlPosition{position.line + 1, 1}
                         : YamlPosition{position.line, position.column + static_cast<int>(length)};
    at += length;
  }
  return {};
}

/// Builds the tree from yaml-cpp's events; what a configuration may not hold ends the parse at its place.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, YamlValue& root) : text_(text), root_(root) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second document begins here, expected one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    add_scalar(mark, YamlValue::Kind::null, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { refuse_anchor(mark); }
  void OnAnchor(const YAML::Mark& mark, const std::string& /*name*/) override { refuse_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                const std::string& text) override {
    check_tag(mark, tag);
    const bool quoted = tag == "!";
    if (quoted) check_quote(mark);
    add_scalar(mark, quoted ? YamlValue::Kind::quoted : YamlValue::Kind::plain, text);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {
    open(mark, tag, YamlValue::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    open(mark, tag, YamlValue::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A list or map under construction.
  struct Open {
    YamlValue value;
    std::optional<YamlEntry> entry;  ///< of a map: the key waits for its value
  };

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& what) {
    throw YAML::ParserException(mark, what);
  }
  [[noreturn]] static void refuse_anchor(const YAML::Mark& mark) {
    refuse(mark, "anchors (&) and aliases (*) are not accepted. Write the value out, in quotes if it begins like this");
  }
  static void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") refuse(mark, "tags (!) are not accepted. Put text in quotes");
  }

  /// yaml-cpp closes a forgotten quote at the end of the file, swallowing all between. Here text ends on its line.
  void check_quote(const YAML::Mark& mark) const {
    const auto begin = static_cast<std::size_t>(mark.pos);
    const char quote = begin < text_.size() ? text_[begin] : '\0';
    if (quote != '"' && quote != '\'') return;
    for (std::size_t at = begin + 1; at < text_.size() && text_[at] != '\n'; ++at) {
      const bool escape = quote == '"' ? text_[at] == '\\' : text_.substr(at).starts_with("''");
      if (escape) {
        ++at;
      } else if (text_[at] == quote) {
        return;
      }
    }
    refuse(mark, "the closing quote is missing on this line");
  }

  void open(const YAML::Mark& mark, const std::string& tag, YamlValue::Kind kind) {
    check_tag(mark, tag);
    if (key_is_next()) refuse(mark, "expected a key in plain text here, or a closing bracket is missing");
    if (open_.size() == kMaxDepth) refuse(mark, format("nested deeper than {} levels", kMaxDepth));
    open_.emplace_back().value.kind = kind;
  }
  void close() {
    YamlValue value = std::move(open_.back().value);
    open_.pop_back();
    add(std::move(value));
  }

  void add_scalar(const YAML::Mark& mark, YamlValue::Kind kind, const std::string& text) {
    if (key_is_next()) {
      const std::string key = kind == YamlValue::Kind::null ? "null" : text;
      open_.back().entry = YamlEntry{.key = key, .position = position_of(mark), .value = {}};
    } else {
      YamlValue value;
      value.kind = kind;
      value.text = text;
      add(std::move(value));
    }
  }
  void add(YamlValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& parent = open_.back(); parent.value.kind == YamlValue::Kind::list) {
      parent.value.items.push_back(std::move(value));
    } else {
      parent.entry->value = std::move(value);
      parent.value.entries.push_back(std::move(*parent.entry));
      parent.entry.reset();
    }
  }

  bool key_is_next() const {
    return !open_.empty() && open_.back().value.kind == YamlValue::Kind::map && !open_.back().entry;
  }
  std::string_view text_;
  YamlValue& root_;
  std::vector<Open> open_;
  int documents_ = 0;
};

/// The value as YAML's flow style, more or less: for people.
std::string written(const YamlValue& value) {
  switch (value.kind) {
    case YamlValue::Kind::null:
      return "null";
    case YamlValue::Kind::plain:
      return value.text;
    case YamlValue::Kind::quoted:
      return '"' + value.text + '"';
    case YamlValue::Kind::list: {
      std::string items;
      for (const YamlValue& item : value.items) items += (items.empty() ? "" : ", ") + written(item);
      return "[" + items + "]";
    }
    case YamlValue::Kind::map:
      break;
  }
  std::string entries;
  for (const YamlEntry& entry : value.entries) {
    entries += (entries.empty() ? "" : ", ") + entry.key + ": " + written(entry.value);
  }
  return "{" + entries + "}";
}

}  // namespace

YamlDocument parse_yaml(std::string_view text) {
  YamlDocument document;
  if (text.size() > kMaxYamlBytes) {
    document.problem = {{}, format("larger than {} bytes, which no configuration is", kMaxYamlBytes)};
    return document;
  }
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  document.problem = find_bad_byte(text);
  if (document.problem) return document;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(text, document.root);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& problem) {
    const YamlPosition position = position_of(problem.mark);
    const std::string_view line = line_at(text, position.line);
    const bool tab = line.substr(0, line.find_first_not_of(" \t")).find('\t') != std::string_view::npos;
    document.problem = {position,
                        format("not valid YAML: {}{}", problem.msg, tab ? ". Indent with spaces, not tabs" : "")};
  }
  return document;
}

std::string shortened(std::string_view text) {
  std::string shown(text.substr(0, kMaxShownBytes));
  if (shown.size() < text.size()) {
    while (!shown.empty() && (static_cast<std::uint8_t>(text[shown.size()]) & 0xC0U) == 0x80U) shown.pop_back();
    shown += "...";
  }
  for (char& c : shown) {
    if (is_control(c)) c = '?';
  }
  return shown;
}

std::string describe(const YamlValue& value) { return shortened(written(value)); }

}  // namespace dcs3gd::app
