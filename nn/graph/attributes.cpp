#include "nn/graph/attributes.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn {
namespace {

struct ToText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const std::string& value) const { return format("'{}'", value); }
  std::string operator()(std::int64_t value) const { return format("{}", value); }
  std::string operator()(double value) const {
    const std::string text = format("{}", value);
    return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;  // 1.0 is no integer
  }
};

}  // namespace

void AttributeReader::integer(const char* name, int& field, int least) {
  const std::string expected = format("an integer from {} to {}", least, kLargestInteger);
  const auto is_in_range = [&](std::int64_t value) { return value >= least && value <= kLargestInteger; };
  if (const Attribute* attribute = find(name)) {
    const auto* value = std::get_if<std::int64_t>(&attribute->value);
    if (value == nullptr || !is_in_range(*value)) refuse(name, expected, *attribute);
    field = static_cast<int>(*value);
  } else if (!is_in_range(field)) {
    refuse_field(name, expected, field);
  }
}

void AttributeReader::number(const char* name, float& field, double least, double below) {
  std::string expected = "a finite number";
  if (std::isfinite(least)) expected += format(" of at least {}", least);
  if (std::isfinite(below)) expected += format(" and below {}", below);
  // As the field has it: 1 − 1e-12 is 1 there.
  const auto is_in_range = [&](float value) {
    return std::isfinite(value) && static_cast<double>(value) >= least && static_cast<double>(value) < below;
  };
  if (const Attribute* attribute = find(name)) {
    float value = std::numeric_limits<float>::quiet_NaN();
    if (const auto* number = std::get_if<double>(&attribute->value)) value = static_cast<float>(*number);
    if (const auto* integer = std::get_if<std::int64_t>(&attribute->value)) value = static_cast<float>(*integer);
    if (!is_in_range(value)) refuse(name, expected, *attribute);
    field = value;
  } else if (!is_in_range(field)) {
    refuse_field(name, expected, static_cast<double>(field));
  }
}

void AttributeReader::boolean(const char* name, bool& field) {
  const Attribute* attribute = find(name);
  if (attribute == nullptr) return;
  const bool* value = std::get_if<bool>(&attribute->value);
  if (value == nullptr) refuse(name, "true or false", *attribute);
  field = *value;
}

void AttributeReader::finish() const {
  if (attributes_ == nullptr) return;
  for (auto attribute = attributes_->begin(); attribute != attributes_->end(); ++attribute) {
    if (std::ranges::find(names_, attribute->name) == names_.end()) {
      throw Error(ErrorKind::input, format("layer {}: there is no attribute '{}'; expected {}", layer_, attribute->name,
                                           names_.empty() ? "none" : format("{}", fmt::join(names_, ", "))));
    }
    if (std::ranges::find(attributes_->begin(), attribute, attribute->name, &Attribute::name) != attribute) {
      throw Error(ErrorKind::input, format("layer {}: {}: expected it once, found it twice", layer_, attribute->name));
    }
  }
}

const Attribute* AttributeReader::find(const char* name) {
  names_.emplace_back(name);
  if (attributes_ == nullptr) return nullptr;
  const auto found = std::ranges::find(*attributes_, name, &Attribute::name);
  return found == attributes_->end() ? nullptr : &*found;
}

std::optional<std::size_t> AttributeReader::index_of_word(const char* name,
                                                          const std::vector<std::string_view>& words) {
  const Attribute* attribute = find(name);
  if (attribute == nullptr) return std::nullopt;
  const auto* given = std::get_if<std::string>(&attribute->value);
  const auto word = given == nullptr ? words.end() : std::ranges::find(words, *given);
  if (word == words.end()) refuse(name, format("one of {}", fmt::join(words, ", ")), *attribute);
  return static_cast<std::size_t>(word - words.begin());
}

void AttributeReader::refuse(const char* name, const std::string& expected, const Attribute& found) const {
  throw Error(ErrorKind::input,
              format("layer {}: {}: expected {}, found {}", layer_, name, expected, std::visit(ToText{}, found.value)));
}

void AttributeReader::refuse_field(const char* name, const std::string& expected, double found) const {
  throw Error(ErrorKind::input, format("layer {}: {}: expected {}, {}", layer_, name, expected,
                                       attributes_ == nullptr ? format("found {}", found) : "but it is missing"));
}

}  // namespace dcs3gd::nn
