#pragma once

#include <vector>

#include "search/feasible_set.hpp"

namespace elastiform {

/// Costs without an optimizer's state: enough for every additive cost.
CostModel plain_costs(const SearchSpace& space);

/// A random space of at most some 10^4 subnets: uneven choices, pins, grouped queries, and in every fourth an absent branch as a choice.
SearchSpace random_space(std::uint64_t number);

/// Every subnet of a space, in the order of Subnet's operator<=>, by nested loops that know nothing of counting.
std::vector<Subnet> every_subnet(const SearchSpace& space);

/// Spaces of more than 10^40 subnets, embed widths 320, 384 and 448: 52 to 56 blocks of 2 · 3 choices, or 28 to 32 of 5 · 5, uneven.
SearchSpace deep_space();
SearchSpace wide_space();

}  // namespace elastiform
