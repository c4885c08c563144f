#include "app/config/key_tables.h"

#include "app/config/network_reader.h"
#include "app/config/schema.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr const char* kHead =
    "# All keys, all networks\n\n"
    "What `dcs3gd-train --print-keys` writes. A key's section is the part before its last dot: `run.epochs` is "
    "`epochs:` "
    "within\n`run:`, or `--set run.epochs=10`. Those marked \"yes\" may change when a run is continued.\n";

constexpr const char* kNetworks =
    "\n## Networks\n\n"
    "For `model.name`, with the parameters they have for the images and classes of their usual data set; both may be "
    "others.\nOne of your own: [README.md](README.md#networks).\n\n"
    "| name | parameters | images | classes |\n|---|---|---|---|\n";

/// Within a cell.
std::string escaped(const std::string& text) {
  std::string cell;
  for (const char c : text) cell += c == '|' ? "\\|" : std::string(1, c);
  return cell;
}

}  // namespace

std::string key_tables() {
  Configuration configuration;
  std::string page = kHead;
  std::string section;
  for (const Field& field : schema(configuration)) {
    const std::string its_section = field.key.substr(0, field.key.find('.'));
    if (its_section != section) {
      page += format("\n## {}\n\n| key | default | is | may be | continued |\n|---|---|---|---|---|\n", its_section);
      section = its_section;
    }
    const std::string value = field.key == "run.name" ? "the file's name" : "`" + field.print() + "`";
    page += format("| `{}` | {} | {} | {} | {} |\n", field.key, value, escaped(field.help), escaped(field.accepts),
                   field.on_resume == OnResume::may_change ? "yes" : "");
  }
  page += kNetworks;
  for (const std::string& name : network_names()) {
    const NetworkSettings settings = usual_settings(named_network(name));
    page += format("| `{}` | {} | {}x{}x{} | {} |\n", name,
                   fmt::group_digits(usual_network(name).parameter_layout()->element_count()), settings.channels,
                   settings.image_size, settings.image_size, settings.classes);
  }
  return page;
}

}  // namespace dcs3gd::app
