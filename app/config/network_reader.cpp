#include "app/config/network_reader.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "app/config/built_in_networks.h"
#include "app/config/suggestion.h"
#include "app/config/value_format.h"
#include "app/config/yaml_reader.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "nn/graph/layer_kinds.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kMaxLayers = 10'000;  // far beyond any network; a mistyped repeat ends here
constexpr const char* kInput = "in";        // of a block
constexpr const char* kCounter = "i";       // of repeat

const YamlValue* find(const YamlValue& map, std::string_view key) {
  const auto entry = std::ranges::find(map.entries, key, &YamlEntry::key);
  return entry == map.entries.end() ? nullptr : &entry->value;
}

bool is_layer_kind(std::string_view name) {
  return std::ranges::any_of(nn::layer_kinds(), [&](const nn::LayerKind& kind) { return kind.name == name; });
}

/// A scalar as the kinds of layers read it.
nn::Attribute nn_attribute(const std::string& name, const std::string& text) {
  const YamlValue value{.kind = YamlValue::Kind::plain, .text = text};
  if (text == "true" || text == "false") return {name, text == "true"};
  if (const auto whole = parse_whole(value)) return {name, *whole};
  if (const auto real = parse_real<double>(value)) return {name, *real};
  return {name, text};
}

std::vector<std::string> keys_of(const std::map<std::string, std::string>& map) {
  std::vector<std::string> keys;
  keys.reserve(map.size());
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

/// Reads one description into one graph.
class NetworkReader {
 public:
  NetworkReader(const NetworkDescription& description, const NetworkSettings& settings)
      : description_(description),
        document_(parse_yaml(description.text)),
        graph_({settings.channels, settings.image_size, settings.image_size}) {
    if (document_.problem) refuse(document_.problem->position, document_.problem->what);
    if (document_.root.kind != YamlValue::Kind::map) refuse({}, "expected a network: usual, blocks and layers");
    variables_ = {{"classes", format("{}", settings.classes)},
                  {"dropout", format("{}", settings.dropout)},
                  {"residual_gamma", settings.zero_init_residual ? "0" : "1"}};
  }

  nn::Graph read() {
    const YamlEntry* layers = nullptr;
    for (const YamlEntry& entry : document_.root.entries) {
      if (entry.key == "blocks") {
        read_blocks(entry);
      } else if (entry.key == "layers") {
        layers = &entry;
      } else if (entry.key != "usual") {
        const std::vector<std::string> sections = {"usual", "blocks", "layers"};
        refuse(entry.position, format("{}: expected {}{}", shortened(entry.key), fmt::join(sections, ", "),
                                      did_you_mean(entry.key, sections)));
      }
    }
    if (layers == nullptr) refuse({}, "layers is missing");
    Scope scope{.variables = variables_, .values = {{kInput, graph_.input()}}, .last = graph_.input()};
    add_layers(layers->position, layers->value, scope);
    if (graph_.nodes().empty()) refuse(layers->position, "layers: expected at least one layer");
    return std::move(graph_);
  }

  /// The value of a key of `usual`.
  int usual(const std::string& key) const {
    const YamlValue* usual = find(document_.root, "usual");
    const YamlValue* value = usual != nullptr ? find(*usual, key) : nullptr;
    const std::optional<std::int64_t> number = value != nullptr ? parse_whole(*value) : std::nullopt;
    if (!number || *number < 1) refuse({}, format("usual.{}: expected a number above 0", key));
    return static_cast<int>(*number);
  }

 private:
  /// The layers of the network, or of one use of a block.
  struct Scope {
    std::string prefix;                            ///< of the layers' names
    std::map<std::string, std::string> variables;  ///< without $
    std::map<std::string, nn::ValueId> values;     ///< by the name of the layer that made them
    nn::ValueId last;                              ///< src where none is named
    const YamlEntry* block = nullptr;              ///< blocks after it cannot be used in it
    std::set<std::string> used = {};               ///< variables
  };

  void read_blocks(const YamlEntry& blocks) {
    for (const YamlEntry& block : blocks.value.entries) {
      if (is_layer_kind(block.key)) {
        refuse(block.position, format("{}: a block cannot have the name of a kind of layer", shortened(block.key)));
      }
      blocks_.push_back(&block);
    }
  }

  /// The block of this name that may stand in the scope.
  const YamlEntry* find_block(const std::string& name, const Scope& scope) const {
    for (const YamlEntry* block : blocks_) {
      if (block == scope.block) return nullptr;
      if (block->key == name) return block;
    }
    return nullptr;
  }

  void add_layers(const YamlPosition& position, const YamlValue& layers, Scope& scope) {
    if (layers.kind != YamlValue::Kind::list) refuse(position, "expected a list of layers");
    for (const YamlValue& item : layers.items) {
      if (item.kind != YamlValue::Kind::map || item.entries.size() != 1) {
        refuse(item.entries.empty() ? position : item.entries[1].position,
               "expected one layer, as \"- convolution: {name: conv1, …}\"");
      }
      const YamlEntry& layer = item.entries.front();
      if (layer.value.kind != YamlValue::Kind::map && layer.value.kind != YamlValue::Kind::null) {
        refuse(layer.position, format("{}: expected attributes {{name: value, …}}", shortened(layer.key)));
      }
      if (const YamlEntry* block = find_block(layer.key, scope)) {
        add_blocks(layer, *block, scope);
      } else {
        add_layer(layer, scope);
      }
    }
  }

  /// A use of a block, or several in a row.
  void add_blocks(const YamlEntry& use, const YamlEntry& block, Scope& scope) {
    const YamlValue* repeat = find(use.value, "repeat");
    if (repeat == nullptr) return add_block(use, block, scope);
    const auto bound = [&](std::size_t index) -> std::optional<std::int64_t> {
      if (repeat->kind != YamlValue::Kind::list || repeat->items.size() != 2) return std::nullopt;
      return parse_whole(repeat->items[index]);
    };
    const std::optional<std::int64_t> first = bound(0);
    const std::optional<std::int64_t> last = bound(1);
    if (!first || !last) refuse(use.position, "repeat: expected [FIRST, LAST], the values of $i");
    const auto outer = scope.variables;
    for (std::int64_t i = *first; i <= *last; ++i) {
      scope.variables[kCounter] = std::to_string(i);
      add_block(use, block, scope);
    }
    scope.variables = outer;
  }

  void add_block(const YamlEntry& use, const YamlEntry& block, Scope& scope) {
    Scope inner{.prefix = scope.prefix,
                .variables = variables_,
                .values = {{kInput, scope.last}},
                .last = scope.last,
                .block = &block};
    for (const YamlEntry& argument : use.value.entries) {
      if (argument.key == "repeat") continue;
      const std::string text = substituted(argument, scope);
      if (argument.key == "name") {
        inner.prefix += text + ".";
      } else {
        inner.variables[argument.key] = text;
      }
    }
    add_layers(block.position, block.value, inner);
    for (const YamlEntry& argument : use.value.entries) {
      if (argument.key == "repeat" || argument.key == "name" || inner.used.contains(argument.key)) continue;
      refuse(argument.position,
             format("{}: the block {} has no ${}", shortened(argument.key), block.key, shortened(argument.key)));
    }
    scope.last = inner.last;
  }

  void add_layer(const YamlEntry& layer, Scope& scope) {
    if (!is_layer_kind(layer.key)) {
      std::vector<std::string> known;
      for (const nn::LayerKind& kind : nn::layer_kinds()) known.emplace_back(kind.name);
      for (const YamlEntry* block : blocks_) known.push_back(block->key);
      refuse(layer.position, format("{}: there is no such kind of layer, and no such block before it{}",
                                    shortened(layer.key), did_you_mean(layer.key, known)));
    }
    if (graph_.nodes().size() == kMaxLayers) refuse(layer.position, format("more than {} layers", kMaxLayers));
    std::string name;
    std::vector<nn::ValueId> src = {scope.last};
    nn::Attributes attributes;
    for (const YamlEntry& attribute : layer.value.entries) {
      if (attribute.key == "src") {
        src = sources(attribute, scope);
      } else if (attribute.key == "name") {
        name = substituted(attribute, scope);
      } else {
        attributes.push_back(nn_attribute(attribute.key, substituted(attribute, scope)));
      }
    }
    const std::string full_name = name.empty() ? "" : scope.prefix + name;
    if (!name.empty() && !names_.insert(full_name).second) {
      refuse(layer.position, format("{}: another layer has this name", shortened(full_name)));
    }
    try {
      scope.last =
          graph_.add(nn::read_layer(layer.key, name.empty() ? layer.key : full_name, attributes), src, full_name);
    } catch (const Error& error) {
      refuse(layer.position, error.what());
    }
    if (!name.empty()) scope.values[name] = scope.last;
  }

  std::vector<nn::ValueId> sources(const YamlEntry& src, const Scope& scope) const {
    const std::vector<YamlValue> names =
        src.value.kind == YamlValue::Kind::list ? src.value.items : std::vector<YamlValue>{src.value};
    std::vector<nn::ValueId> values;
    for (const YamlValue& name : names) {
      const auto value = scope.values.find(name.text);
      if (value == scope.values.end()) {
        refuse(src.position,
               format("src: there is no layer {} before it here; \"{}\" is the input", describe(name), kInput));
      }
      values.push_back(value->second);
    }
    return values;
  }

  /// The text of a value with its $variables replaced.
  std::string substituted(const YamlEntry& entry, Scope& scope) const {
    if (entry.value.kind != YamlValue::Kind::plain && entry.value.kind != YamlValue::Kind::quoted) {
      refuse(entry.position, format("{}: expected a number or a word", shortened(entry.key)));
    }
    std::string text;
    const std::string& from = entry.value.text;
    for (std::size_t at = 0; at < from.size();) {
      if (from[at] != '$') {
        text += from[at++];
        continue;
      }
      const std::size_t end = from.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
      const std::string name = from.substr(at + 1, end == std::string::npos ? end : end - at - 1);
      const auto variable = scope.variables.find(name);
      if (variable == scope.variables.end()) {
        refuse(entry.position, format("{}: there is no variable ${} here; there are ${}", shortened(entry.key),
                                      shortened(name), fmt::join(keys_of(scope.variables), ", $")));
      }
      text += variable->second;
      scope.used.insert(name);
      at = end == std::string::npos ? from.size() : end;
    }
    return text;
  }

  [[noreturn]] void refuse(const YamlPosition& position, const std::string& what) const {
    throw Error(ErrorKind::input, format("{}:{}:{}: {}", description_.file, position.line, position.column, what));
  }

  const NetworkDescription& description_;
  const YamlDocument document_;
  std::vector<const YamlEntry*> blocks_;
  std::map<std::string, std::string> variables_;  ///< everywhere
  std::set<std::string> names_;                   ///< of all layers
  nn::Graph graph_;
};

}  // namespace

const std::vector<std::string>& network_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const BuiltInNetwork& network : built_in_networks()) all.emplace_back(network.name);
    return all;
  }();
  return names;
}

NetworkDescription named_network(const std::string& name) {
  for (const BuiltInNetwork& network : built_in_networks()) {
    if (network.name == name) return {format("{}.yaml", name), std::string(network.text)};
  }
  throw Error(ErrorKind::input,
              format("model.name: there is no model '{}'; expected one of {}", name, fmt::join(network_names(), ", ")));
}

NetworkDescription read_network_file(const std::string& path) {
  const PositionedFile file(path);
  if (file.size() > kMaxYamlBytes) {
    throw Error(ErrorKind::input,
                format("{} is no description of a network: it has more than {} bytes", path, kMaxYamlBytes));
  }
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return {path, std::move(text)};
}

NetworkSettings usual_settings(const NetworkDescription& description) {
  const NetworkReader reader(description, {});
  return {.classes = reader.usual("classes"),
          .channels = reader.usual("channels"),
          .image_size = reader.usual("image_size")};
}

nn::Graph usual_network(const std::string& name, int image_size) {
  const NetworkDescription description = named_network(name);
  NetworkSettings settings = usual_settings(description);
  if (image_size > 0) settings.image_size = image_size;
  return build_network(description, settings);
}

nn::Graph build_network(const NetworkDescription& description, const NetworkSettings& settings) {
  return NetworkReader(description, settings).read();
}

}  // namespace dcs3gd::app
