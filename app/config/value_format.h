#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "app/config/yaml_reader.h"

/// How values look in the configuration file: a ValueFormat reads and writes values of one type.
namespace dcs3gd::app {

template <typename T>
struct ValueFormat {
  std::string accepts;                                            ///< completes "must be …"
  std::vector<std::string> words;                                 ///< that it accepts, to suggest one
  std::function<std::optional<T>(const YamlValue& value)> parse;  ///< none: not acceptable
  std::function<std::string(const T& value)> print;
};

/// The ends of a range of numbers.
struct Range {
  double low = -HUGE_VAL;
  double high = HUGE_VAL;
  bool low_included = true;
  bool high_included = true;

  bool contains(double value) const {
    return (low_included ? value >= low : value > low) && (high_included ? value <= high : value < high);
  }
};
constexpr Range at_least(double low) { return {.low = low}; }
constexpr Range above(double low) { return {.low = low, .low_included = false}; }
constexpr Range fraction() { return {.low = 0, .high = 1, .high_included = false}; }

// Building blocks of the forms below.
std::optional<std::int64_t> parse_whole(const YamlValue& value);
/// A finite number of type float or double, rounded once.
template <typename Real>
std::optional<Real> parse_real(const YamlValue& value);
/// The shortest text that reads back as the same number, in a format that YAML 1.1 and 1.2 take for a number.
template <typename Real>
std::string print_real(Real value);
std::string print_text(const std::string& value);
bool is_scalar(const YamlValue& value, std::string_view text);
std::string whole_accepts(std::int64_t low, std::int64_t high);
std::string real_accepts(const Range& range);
std::string choice_accepts(const std::vector<std::string>& words);

/// true or false; YAML 1.1's yes, no, on and off are not accepted.
ValueFormat<bool> flag();
/// Not empty. A plain word that looks like a number is text here.
ValueFormat<std::string> text();
/// Text that names a file or folder; a ~ at its beginning becomes the home folder, as no shell has seen it.
ValueFormat<std::string> path();
/// Such text, or null, which stands for the empty one.
ValueFormat<std::string> text_or_null(const ValueFormat<std::string>& some_text);

template <typename Whole>
ValueFormat<Whole> whole(std::int64_t low, std::int64_t high) {
  return {.accepts = whole_accepts(low, high),
          .words = {},
          .parse = [=](const YamlValue& value) -> std::optional<Whole> {
            const auto number = parse_whole(value);
            if (!number || *number < low || *number > high) return {};
            return static_cast<Whole>(*number);
          },
          .print = [](const Whole& value) { return std::to_string(value); }};
}

template <typename Real>
ValueFormat<Real> real(const Range& range) {
  return {.accepts = real_accepts(range),
          .words = {},
          .parse = [=](const YamlValue& value) -> std::optional<Real> {
            const auto number = parse_real<Real>(value);
            return number && range.contains(static_cast<double>(*number)) ? number : std::nullopt;
          },
          .print = [](const Real& value) { return print_real(value); }};
}

/// One of the words, each of which stands for a value.
template <typename Enum>
ValueFormat<Enum> choice(const std::vector<std::pair<std::string, Enum>>& values) {
  std::vector<std::string> words;
  words.reserve(values.size());
  for (const auto& [word, value] : values) words.push_back(word);
  return {.accepts = choice_accepts(words),
          .words = words,
          .parse = [=](const YamlValue& value) -> std::optional<Enum> {
            for (const auto& [word, meaning] : values) {
              if (is_scalar(value, word)) return meaning;
            }
            return {};
          },
          .print =
              [=](const Enum& value) {
                for (const auto& [word, meaning] : values) {
                  if (meaning == value) return word;
                }
                return std::string();
              }};
}

/// A value or a word that stands for none: "null" (YAML's null, not the text), "auto", …
template <typename T>
ValueFormat<std::optional<T>> or_word(const std::string& none, const ValueFormat<T>& format) {
  std::vector<std::string> words = format.words;
  words.push_back(none);
  return {.accepts = format.accepts + ", or " + none,
          .words = words,
          .parse = [=](const YamlValue& value) -> std::optional<std::optional<T>> {
            const bool is_none = none == "null" ? value.kind == YamlValue::Kind::null : is_scalar(value, none);
            if (is_none) return std::optional<T>();
            std::optional<T> inner = format.parse(value);
            return inner ? std::make_optional(inner) : std::nullopt;
          },
          .print = [=](const std::optional<T>& value) { return value ? format.print(*value) : none; }};
}

template <typename T>
ValueFormat<std::vector<T>> list_of(const ValueFormat<T>& format) {
  return {.accepts = "a list [...], each entry " + format.accepts,
          .words = {},
          .parse = [=](const YamlValue& value) -> std::optional<std::vector<T>> {
            if (value.kind != YamlValue::Kind::list) return {};
            std::vector<T> entries;
            for (const YamlValue& item : value.items) {
              std::optional<T> entry = format.parse(item);
              if (!entry) return {};
              entries.push_back(std::move(*entry));
            }
            return entries;
          },
          .print =
              [=](const std::vector<T>& entries) {
                std::string list;
                for (const T& entry : entries) list += (list.empty() ? "" : ", ") + format.print(entry);
                return "[" + list + "]";
              }};
}

}  // namespace dcs3gd::app
