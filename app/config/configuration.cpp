#include "app/config/configuration.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <tuple>

#include "app/config/schema.h"
#include "app/config/suggestion.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

/// Reading stops here: nobody reads more, and a hostile file must not cost time.
constexpr std::size_t kMaxProblems = 50;

/// Where the comments of an explained configuration begin.
constexpr std::size_t kCommentColumn = 32;

/// Where a key was given: layer 0 is the file, layer i the i-th override.
struct Origin {
  std::size_t layer = 0;
  YamlPosition position;
};

struct Problem {
  Origin origin;
  std::string what;
};

std::string joined(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

/// "optimizer.lr" of "optimizer.lr.base"; empty for a section at the top.
std::string section_of(const std::string& key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

std::string last_word_of(const std::string& key) { return key.substr(key.rfind('.') + 1); }

/// What to write instead of YAML 1.1's other words for true and false.
std::string boolean_hint(const YamlValue& value) {
  for (const char* word : {"yes", "Yes", "YES", "on", "On", "ON"}) {
    if (is_scalar(value, word)) return ". Write true";
  }
  for (const char* word : {"no", "No", "NO", "off", "Off", "OFF"}) {
    if (is_scalar(value, word)) return ". Write false";
  }
  return "";
}

/// Reads the layers one over the other into one configuration, collects all problems.
class Reader {
 public:
  explicit Reader(const ConfigurationSource& source) : source_(source), fields_(schema(configuration_)) {
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      const std::string& key = fields_[i].key;
      for (std::string path = section_of(key); !path.empty(); path = section_of(path)) add_section(path);
      field_of_[key] = i;
      known_.push_back(key);
    }
  }

  Configuration read() {
    read_text();
    for (std::size_t i = 0; i < source_.overrides.size(); ++i) read_override(i + 1, source_.overrides[i]);
    complete();
    check(conditions(source_.is_trained));
    throw_if_problems();
    return std::move(configuration_);
  }

 private:
  void add_section(const std::string& path) {
    if (sections_.insert(path).second) known_.push_back(path);
  }

  void read_text() {
    const YamlDocument document = parse_yaml(source_.text);
    if (document.problem) {
      incomplete_ = true;
      add_problem({0, document.problem->position}, document.problem->what);
    } else if (document.root.kind == YamlValue::Kind::null) {
      add_problem({}, "no configuration in it. Write {} for all defaults");
    } else {
      read_section("", {}, document.root);
    }
  }

  void read_override(std::size_t layer, const std::string& assignment) {
    const std::size_t equals = assignment.find('=');
    const std::string key = assignment.substr(0, equals);
    if (equals == std::string::npos || key.empty()) {
      return add_problem({layer, {}}, "expected KEY=VALUE, for example run.epochs=10");
    }
    const std::string_view text = std::string_view(assignment).substr(equals + 1);
    const YamlDocument value = parse_yaml(text);
    if (value.problem) {
      incomplete_ = true;
      return add_problem({layer, {}}, key, value.problem->what);
    }
    if (value.root.kind == YamlValue::Kind::null && text.find_first_of("%#-.") == 0) {
      return add_problem(
          {layer, {}}, key,
          format("YAML takes {} for a directive, a comment or a mark, not for a value. Put it in quotes, "
                 "and these into others for the shell: --set '{}=\"{}\"'",
                 shortened(text), key, shortened(text)));
    }
    read_key(key, {layer, {}}, value.root);
  }

  void read_section(const std::string& section, const Origin& origin, const YamlValue& value) {
    if (value.kind == YamlValue::Kind::null) return;  // all its keys are comments
    if (value.kind != YamlValue::Kind::map && section.empty()) {
      return add_problem(origin, format("expected the sections {}; found {}", joined(keys_in("")), describe(value)));
    }
    if (value.kind != YamlValue::Kind::map) {
      return add_problem(origin, section,
                         format("must be a section with the keys {}; found {}{}", joined(keys_in(section)),
                                describe(value), missing_colon_hint(section, value)));
    }
    std::map<std::string_view, YamlPosition> seen;
    for (const YamlEntry& entry : value.entries) {
      if (problems_.size() >= kMaxProblems) return;
      const Origin here = origin.layer == 0 ? Origin{0, entry.position} : origin;
      const std::string key = section.empty() ? entry.key : section + "." + entry.key;
      const auto [first, is_new] = seen.emplace(entry.key, entry.position);
      if (!is_new) {
        const std::string where = origin.layer == 0 ? format(", first in line {}", first->second.line) : "";
        add_problem(here, key, format("given twice{}. Keep one", where));
      } else if (entry.key.find('.') != std::string::npos) {
        add_problem(here, key, "dotted keys are for --set. Write it as nested sections");
      } else {
        read_key(key, here, entry.value);
      }
    }
  }

  void read_key(const std::string& key, const Origin& origin, const YamlValue& value) {
    if (sections_.contains(key)) return read_section(key, origin, value);
    const auto found = field_of_.find(key);
    if (found == field_of_.end()) return add_problem(origin, key, "unknown key" + unknown_key_hint(key));
    const Field& field = fields_[found->second];
    origins_[key] = origin;
    if (field.read(value)) return;
    unreadable_.insert(key);
    add_problem(origin, key,
                format("must be {}; found {}{}", field.accepts, describe(value), value_hint(field, value)));
  }

  /// A misspelt key beside it, else one of that name elsewhere or in other programs, else a misspelt one, else what
  /// there is to choose from. Completes a sentence.
  std::string unknown_key_hint(const std::string& key) const {
    const auto best = nearest(key, known_);
    const bool is_neighbour = best && section_of(*best) == section_of(key);
    const auto called = is_neighbour ? std::nullopt : key_called(key, known_);
    if (called || best) return ". Did you mean " + called.value_or(best.value_or("")) + "?";

    std::string section = section_of(key);
    while (!section.empty() && !sections_.contains(section)) section = section_of(section);
    const std::string owner = section.empty() ? ". The sections are " : ". The keys of " + section + " are ";
    return owner + joined(keys_in(section));
  }

  /// Of "epochs 3" within run; completes a sentence.
  std::string missing_colon_hint(const std::string& section, const YamlValue& value) const {
    const std::size_t space = value.text.find(' ');
    const std::string word = value.text.substr(0, space);
    const std::vector<std::string> words = keys_in(section);
    if (value.kind != YamlValue::Kind::plain || std::ranges::find(words, word) == words.end()) return "";
    return format(". Write {}: {}", word,
                  space == std::string::npos ? "VALUE" : shortened(value.text.substr(space + 1)));
  }

  /// What was probably meant; completes a sentence.
  static std::string value_hint(const Field& field, const YamlValue& value) {
    if (value.kind == YamlValue::Kind::quoted) {
      YamlValue unquoted = value;
      unquoted.kind = YamlValue::Kind::plain;
      if (field.read(unquoted)) return ". Remove the quotes";
    }
    if (std::ranges::find(field.words, "true") != field.words.end()) {
      if (std::string hint = boolean_hint(value); !hint.empty()) return hint;
    }
    return value.kind == YamlValue::Kind::plain ? did_you_mean(value.text, field.words) : "";
  }

  /// The words that stand directly within a section.
  std::vector<std::string> keys_in(const std::string& section) const {
    std::vector<std::string> words;
    for (const std::string& known : known_) {
      if (section_of(known) == section) words.push_back(last_word_of(known));
    }
    return words;
  }

  /// Values that are a matter of other values.
  void complete() {
    if (!origins_.contains("run.name")) {
      configuration_.run.name = fs::path(source_.file_name).stem().string();
      origins_["run.name"] = {};
    }
    if (configuration_.checkpoint.every_epochs == 0) configuration_.checkpoint.every_epochs.reset();
  }

  /// A key whose value could not be read, or a layer that could not, would only lead to wrong conclusions.
  void check(const std::vector<Condition>& all) {
    if (incomplete_) return;
    for (const Condition& condition : all) {
      const auto origin = origins_.find(condition.keys.front());
      const bool readable =
          std::ranges::none_of(condition.keys, [&](const std::string& key) { return unreadable_.contains(key); });
      if (origin == origins_.end() || !readable) continue;
      const std::string violation = condition.violation(configuration_);
      if (!violation.empty()) add_problem(origin->second, origin->first, violation);
    }
  }

  void add_problem(const Origin& origin, const std::string& what) { problems_.push_back({origin, what}); }
  void add_problem(const Origin& origin, const std::string& key, const std::string& what) {
    add_problem(origin, key.empty() ? what : shortened(key) + ": " + what);
  }

  void throw_if_problems() {
    if (problems_.empty()) return;
    std::ranges::stable_sort(problems_, {}, [](const Problem& problem) {
      const Origin& origin = problem.origin;
      return std::tuple(origin.layer, origin.position.line, origin.position.column);
    });
    std::string message;
    for (const Problem& problem : problems_) {
      message += (message.empty() ? "" : "\n") + place(problem.origin) + ": " + problem.what;
    }
    if (problems_.size() >= kMaxProblems) message += "\nThere may be more: reading stopped at this point";
    throw Error(ErrorKind::input, message);
  }

  std::string place(const Origin& origin) const {
    if (origin.layer > 0) return "--set " + shortened(source_.overrides[origin.layer - 1]);
    return format("{}:{}:{}", source_.file_name, origin.position.line, origin.position.column);
  }

  const ConfigurationSource& source_;
  Configuration configuration_;
  std::vector<Field> fields_;

  std::map<std::string, std::size_t> field_of_;
  std::set<std::string> sections_;
  std::vector<std::string> known_;  ///< keys and sections in the order of the schema

  std::map<std::string, Origin> origins_;  ///< of the keys that were given
  std::set<std::string> unreadable_;       ///< keys with a value that is not acceptable
  bool incomplete_ = false;                ///< a layer is no YAML
  std::vector<Problem> problems_;
};

}  // namespace

fs::path find_configuration_file(const std::string& name, std::span<const fs::path> folders) {
  std::vector<fs::path> places = {name};
  if (fs::path(name).is_relative()) {
    for (const fs::path& folder : folders) places.push_back((folder / name).lexically_normal());
  }
  std::string looked_for;
  for (const fs::path& place : places) {
    std::error_code ignored;
    if (fs::exists(place, ignored)) return place;
    looked_for += (looked_for.empty() ? "" : ", ") + place.string();
  }
  throw Error(ErrorKind::input, format("--config {}: no such file. Looked for {}", name, looked_for));
}

ConfigurationSource read_configuration_file(const fs::path& file, std::vector<std::string> overrides) {
  std::error_code ignored;
  std::ifstream stream(file, std::ios::binary);
  if (!stream || fs::is_directory(file, ignored)) {
    throw Error(ErrorKind::input, format("{}: expected a readable file with a configuration", file.string()));
  }
  // One byte more than parse_yaml() accepts is enough for it to refuse the text, whatever the file's size.
  std::string text(kMaxYamlBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw Error(ErrorKind::input, format("{}: cannot be read", file.string()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return {.file_name = file.string(), .text = std::move(text), .overrides = std::move(overrides)};
}

Configuration parse_configuration(const ConfigurationSource& source) { return Reader(source).read(); }

std::string to_yaml(const Configuration& configuration) {
  Configuration copy = configuration;
  std::string yaml;
  std::string previous;
  for (const Field& field : schema(copy)) {
    // A line for each section that begins with this key, then the key.
    for (std::size_t dot = field.key.find('.'); dot != std::string::npos; dot = field.key.find('.', dot + 1)) {
      const std::string section = field.key.substr(0, dot);
      if (previous.starts_with(section + ".")) continue;
      const auto depth = static_cast<std::size_t>(std::ranges::count(section, '.'));
      yaml += std::string(2 * depth, ' ') + last_word_of(section) + ":\n";
    }
    const auto depth = static_cast<std::size_t>(std::ranges::count(field.key, '.'));
    std::string line = std::string(2 * depth, ' ') + last_word_of(field.key) + ": " + field.print();
    line.resize(std::max(line.size(), kCommentColumn), ' ');
    line += "  # " + field.help + " (" + field.accepts + ")";
    yaml += line + '\n';
    previous = field.key;
  }
  return yaml;
}

Settings settings_of(const Configuration& configuration) {
  Configuration copy = configuration;
  Settings settings;
  for (const Field& field : schema(copy)) settings.emplace_back(field.key, field.print());
  return settings;
}

std::string to_lines(const Configuration& configuration) {
  std::string lines;
  for (const auto& [key, value] : settings_of(configuration)) lines += format("{}: {}\n", key, value);
  return lines;
}

bool may_change_on_resume(const std::string& key) {
  Configuration configuration;
  return std::ranges::any_of(schema(configuration), [&](const Field& field) {
    return field.key == key && field.on_resume == OnResume::may_change;
  });
}

RuleOptions rule_options(const Configuration& configuration) {
  return {.algorithm = configuration.algorithm,
          .sgd = configuration.optimizer.sgd,
          .wire = configuration.comm.wire,
          .loss_limit = configuration.run.loss_limit};
}

std::string configuration_hash(const Configuration& configuration) { return hash_text(to_lines(configuration)); }

}  // namespace dcs3gd::app
