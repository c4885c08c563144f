#include "app/rules/table.h"

#include <algorithm>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {

// A rule is a line in the table and a file that defines one of these; a family of rules shares a file.
RuleInfo dc_s3gd_rule();
RuleInfo s3gd_rule();
RuleInfo ssgd_rule();

const std::vector<RuleInfo>& rules() {
  static const std::vector<RuleInfo> table{dc_s3gd_rule(), s3gd_rule(), ssgd_rule()};
  return table;
}

const RuleInfo& find_rule(std::string_view name) {
  const auto found = std::ranges::find(rules(), name, &RuleInfo::name);
  if (found != rules().end()) return *found;
  std::string names;
  for (const RuleInfo& rule : rules()) names += (names.empty() ? "" : ", ") + rule.name;
  throw Error(ErrorKind::input, format("there is no update rule \"{}\"; there are {}", name, names));
}

std::unique_ptr<UpdateRule> make_rule(const RuleParts& parts, const RuleOptions& options, ParameterArena weights) {
  return find_rule(options.algorithm.name).make(parts, options, std::move(weights));
}

}  // namespace dcs3gd::app
