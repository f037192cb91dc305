#pragma once

#include <string>
#include <vector>

#include "search/feasible_set.hpp"

namespace elastiform {

/// Subnets of one embed width and depth whose blocks are all equal, in order.
std::vector<Subnet> homogeneous_subnets(const SearchSpace& space, int embed, int depth);
/// Those of them that `target` can express.
std::vector<Subnet> deployable_subnets(const SearchSpace& space, int embed, int depth, Deployable target);
/// For a space of which `target` can express nothing: why, by the example of its largest homogeneous subnet.
std::string why_no_member(const SearchSpace& space, Deployable target);

}  // namespace elastiform
