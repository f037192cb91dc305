#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "supernet/weights.hpp"

namespace elastiform {

class Backend;

/// First values of matrices and embeddings where the residual rule has none of its own.
enum class Init : std::uint8_t { xavier, gpt2 };
struct InitEntry {
  Init init;
  std::string_view name, help;
};
std::span<const InitEntry> inits();

/// What `init`, or the model's residual rule (supernet/residual_rules/), says, with the blocks of the space as N;
/// gains are 1, biases and matrices of role zero 0 (weights arrive zeroed). A pure function of (seed, place of the tensor in the
/// table, row, column), so a row of a wider space begins with the same values, times the ratio of their deviations where these depend on the extents (Xavier).
/// backend: whose threads share the rows, if any.
void initialize(Weights& weights, std::uint64_t seed, Backend* backend = nullptr, Init init = Init::xavier);

}  // namespace elastiform
