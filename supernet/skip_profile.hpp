#pragma once

#include "kernels/backend.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/network.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// First values of the skip gains ω of a rule that measures them (ResidualRuleEntry::profiled): one forward pass of the largest subnet over
/// `batch` with ω = 1 gives the variance of every branch's output, and ω_i² = 1 + Σ of those before (the embedding counts as a unit, as
/// norms after the branches make the stream everywhere else). They are weights like others: a checkpoint holds them, and nothing else
/// keeps the measurement. Equal on every rank, as all take the same batch. Arena: Network::plan_branch_variances of the largest.
void profile_skip_gains(const Network& network, Backend& backend, Weights& weights, const Batch& batch, Arena& arena);

}  // namespace elastiform
