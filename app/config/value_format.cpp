#include "app/config/value_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string_view>

#include "core/files.h"
#include "core/format.h"
#include "core/lower_case.h"

namespace dcs3gd::app {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// The whole of a plain scalar as a number, as std::from_chars reads it; a leading + is YAML's.
template <typename Number>
std::optional<Number> parse_number(const YamlValue& value) {
  if (value.kind != YamlValue::Kind::plain) return {};
  std::string_view text = value.text;
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

/// Text that every YAML reader takes for the same text without quotes.
bool is_safe_without_quotes(const std::string& text) {
  constexpr std::array<std::string_view, 11> kOtherMeaning = {"null", "true", "false", "yes", "no", "on",
                                                              "off",  "y",    "n",     "nan", "inf"};
  const auto is_safe = [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.' || c == '/';
  };
  return !text.empty() && (is_letter(text.front()) || text.front() == '/') && std::ranges::all_of(text, is_safe) &&
         std::ranges::find(kOtherMeaning, lower_case(text)) == kOtherMeaning.end();
}

}  // namespace

std::optional<std::int64_t> parse_whole(const YamlValue& value) { return parse_number<std::int64_t>(value); }

template <typename Real>
std::optional<Real> parse_real(const YamlValue& value) {
  const std::optional<Real> number = parse_number<Real>(value);
  return number && std::isfinite(*number) ? number : std::nullopt;
}
template std::optional<float> parse_real(const YamlValue& value);
template std::optional<double> parse_real(const YamlValue& value);

template <typename Real>
std::string print_real(Real value) {
  std::string text = format("{}", value);
  // YAML 1.1 readers (PyYAML) take 1e-05 for text, 1.0e-05 for a number.
  const std::size_t exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return text;
}
template std::string print_real(float value);
template std::string print_real(double value);

std::string print_text(const std::string& value) {
  if (is_safe_without_quotes(value)) return value;
  std::string quoted = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

bool is_scalar(const YamlValue& value, std::string_view text) {
  return (value.kind == YamlValue::Kind::plain || value.kind == YamlValue::Kind::quoted) && value.text == text;
}

std::string whole_accepts(std::int64_t low, std::int64_t high) {
  if (high == std::numeric_limits<std::int64_t>::max()) return format("a whole number of at least {}", low);
  return format("a whole number from {} to {}", low, high);
}

std::string real_accepts(const Range& range) {
  std::string bounds;
  if (std::isfinite(range.low)) bounds += format(" {} {}", range.low_included ? "of at least" : "above", range.low);
  if (std::isfinite(range.high)) {
    bounds += format("{} {} {}", bounds.empty() ? "" : " and", range.high_included ? "at most" : "below", range.high);
  }
  return "a number" + bounds;
}

std::string choice_accepts(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return "one of " + list;
}

ValueFormat<bool> flag() {
  return {.accepts = "true or false",
          .words = {"true", "false"},
          .parse = [](const YamlValue& value) -> std::optional<bool> {
            if (value.kind != YamlValue::Kind::plain || (value.text != "true" && value.text != "false")) return {};
            return value.text == "true";
          },
          .print = [](const bool& value) { return std::string(value ? "true" : "false"); }};
}

ValueFormat<std::string> text() {
  return {.accepts = "non-empty text",
          .words = {},
          .parse = [](const YamlValue& value) -> std::optional<std::string> {
            const bool is_text = value.kind == YamlValue::Kind::plain || value.kind == YamlValue::Kind::quoted;
            const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
            if (!is_text || value.text.empty() || std::ranges::any_of(value.text, is_control)) return {};
            return value.text;
          },
          .print = print_text};
}

ValueFormat<std::string> path() {
  ValueFormat<std::string> format = text();
  format.parse = [parse = format.parse](const YamlValue& value) {
    const std::optional<std::string> text = parse(value);
    return text ? std::optional(expand_home(*text)) : std::nullopt;
  };
  return format;
}

ValueFormat<std::string> text_or_null(const ValueFormat<std::string>& some_text) {
  return {.accepts = "text, or null",
          .words = {},
          .parse = [=](const YamlValue& value) -> std::optional<std::string> {
            const bool empty = value.kind == YamlValue::Kind::null || is_scalar(value, "");
            return empty ? std::string() : some_text.parse(value);
          },
          .print = [](const std::string& value) { return value.empty() ? "null" : print_text(value); }};
}

}  // namespace dcs3gd::app
