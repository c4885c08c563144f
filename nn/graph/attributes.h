#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace dcs3gd::nn {

/// A setting of a layer as a file has it.
struct Attribute {
  std::string name;
  std::variant<bool, std::int64_t, double, std::string> value;
};
/// In the order of the file.
using Attributes = std::vector<Attribute>;

/// Takes attributes into the fields of a layer's options. An attribute that is missing, unknown, given twice, of
/// another type or out of range is an Error{input} that names the layer, the attribute, what was expected and what was
/// found. A field whose attribute is not given keeps its value.
class AttributeReader {
 public:
  static constexpr int kLargestInteger = 1'000'000;

  /// `layer` is its name in messages. Both are borrowed.
  AttributeReader(const std::string& layer, const Attributes& attributes) : layer_(layer), attributes_(&attributes) {}
  /// Takes nothing and only checks the ranges of the fields, which a program has filled.
  explicit AttributeReader(const std::string& layer) : layer_(layer) {}

  /// From `least` to kLargestInteger.
  void integer(const char* name, int& field, int least);
  /// Finite, at least `least` and below `below`; an integer is a number too.
  void number(const char* name, float& field, double least = -std::numeric_limits<double>::infinity(),
              double below = std::numeric_limits<double>::infinity());
  void boolean(const char* name, bool& field);
  /// One of some words.
  template <typename Enum>
  void choice(const char* name, Enum& field, std::initializer_list<std::pair<const char*, Enum>> choices) {
    std::vector<std::string_view> words;
    for (const auto& [word, value] : choices) words.emplace_back(word);
    if (const auto index = index_of_word(name, words)) field = choices.begin()[*index].second;
  }

  /// Refuses attributes that were not asked for. Called last.
  void finish() const;

 private:
  /// Null if it is not given.
  const Attribute* find(const char* name);
  std::optional<std::size_t> index_of_word(const char* name, const std::vector<std::string_view>& words);
  [[noreturn]] void refuse(const char* name, const std::string& expected, const Attribute& found) const;
  [[noreturn]] void refuse_field(const char* name, const std::string& expected, double found) const;

  const std::string& layer_;
  const Attributes* attributes_ = nullptr;
  std::vector<std::string_view> names_;  ///< asked for
};

}  // namespace dcs3gd::nn
