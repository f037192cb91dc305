#pragma once

#include <vector>

#include "supernet/data/data_source.hpp"

namespace elastiform {

constexpr std::size_t index_of(Split split) { return static_cast<std::size_t>(split); }

/// Throws InputError unless there are three positive shares.
void check_splits(const std::vector<int>& shares);

/// Which split each of `count` ≥ 3 things belongs to, in the proportion of `shares` and at least one to each: a Philox shuffle, seed 0, so that
/// the splits of a text or of a set of images never change.
std::vector<Split> deal(std::int64_t count, const std::vector<int>& shares);

}  // namespace elastiform
