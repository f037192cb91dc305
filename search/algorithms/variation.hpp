#pragma once

#include <optional>

#include "search/feasible_set.hpp"

namespace elastiform {

/// Which blocks change: all alike, or later ones more often, so that children share the first blocks of their parents and PrefixEvaluator
/// runs those once.
enum class BlockBias : std::uint8_t { uniform, late };

/// Another choice for one gene of `parent`: of a block nearly always, of depth with probability 1/8, of embed width with 1/16 (a new width
/// shares nothing with its parent). When the budget then no longer holds, another gene pays for it, and where one alone cannot, the last
/// blocks are drawn anew, as few as possible, uniform over their feasible completions. Nullopt when nothing of that is feasible.
std::optional<Subnet> mutate(const FeasibleSet& feasible, const Subnet& parent, BlockBias bias, RandomStream& random);

/// The first blocks of `first` and the remaining ones of `second`; made feasible as a mutant is.
std::optional<Subnet> cross(const FeasibleSet& feasible, const Subnet& first, const Subnet& second, RandomStream& random);

}  // namespace elastiform
