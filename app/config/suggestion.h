#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dcs3gd::app {

/// Number of insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` was probably meant to be: the nearest one, if few of its letters differ.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

/// ". Did you mean X?", which completes a sentence, for the nearest candidate; empty if none is near.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace dcs3gd::app
