#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/rules/options.h"
#include "app/rules/update_rule.h"

namespace dcs3gd::app {

/// Arrays of the size of the weights that a rule keeps on one rank.
struct ArrayCount {
  std::size_t all = 0;               ///< in memory
  std::size_t saved_shared = 0;      ///< of RuleState: those that are the same on all ranks
  std::size_t saved_per_worker = 0;  ///< of RuleState: each worker's own
  std::size_t saved_per_rank = 0;    ///< of RuleState: each rank's own
};

/// What the rest of the program knows of a rule.
struct RuleInfo {
  std::string name;                                  ///< value of algorithm.name
  std::string help;                                  ///< a phrase for that key's comment
  std::string (*settings)(const AlgorithmOptions&);  ///< for the start report: its own settings, "" if it has none
  ArrayCount (*arrays)(const AlgorithmOptions&, comm::Wire);
  std::unique_ptr<UpdateRule> (*make)(const RuleParts&, const RuleOptions&, ParameterArena weights);
};

/// All update rules; the first is the default.
const std::vector<RuleInfo>& rules();
/// The rule of this name. Throws Error{input} that lists the names if there is none.
const RuleInfo& find_rule(std::string_view name);

/// The rule that the options name, at its start: `weights` are the same on all ranks.
std::unique_ptr<UpdateRule> make_rule(const RuleParts& parts, const RuleOptions& options, ParameterArena weights);

}  // namespace dcs3gd::app
