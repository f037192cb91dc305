#pragma once

#include <optional>
#include <vector>

#include "kernels/backend.hpp"
#include "supernet/network.hpp"
#include "trainers/running_stages.hpp"

// Bytes of a training, before there is one: what Trainer allocates, and what its plan says.
namespace elastiform {

/// Bytes of the trainer's arena: the stage that needs most, and of its subnets the largest, bound every other. further_workers: beside what
/// plans that compress are made for. teacher: of a frozen one's pass before them, which those plans must not depend on either.
struct ArenaNeeds {
  std::int64_t keeping_all = 0, unlimited = 0, least = 0, further_workers = 0, teacher = 0;
};
/// What it has, and what plans may count on: all of it, unless they compress.
struct ArenaBytes {
  std::int64_t capacity = 0, limit = 0;
};

/// What a step rule that chooses among sequences keeps of their losses (sharp_sequences.hpp), those of a micro-batch's tokens included.
std::int64_t sharp_bytes(const Network& network, const TrainOptions& options, std::int64_t micro_batches);
ArenaNeeds arena_needs(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                       const BackendTraits& traits, const ActivationChoices& choices);
/// Under a limit, which may be none. Throws InputError where it is less than any plan takes.
ArenaBytes arena_bytes(const ArenaNeeds& needs, const TrainOptions& options, std::optional<std::int64_t> limit);
/// The lowest limit that can be asked for.
std::int64_t least_arena(const ArenaNeeds& needs, const TrainOptions& options, const ArenaBytes& arena);
/// What the largest subnet does in an arena of that size: the most of all stages.
struct LargestPlan {
  double recomputed_share = 0;  // of its forward FLOPs
  std::int64_t away = 0;        // bytes outside the arena
  int tensors = 0, compressed = 0;
};
LargestPlan plan_of_largest(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                            const BackendTraits& traits, std::int64_t limit, const ActivationChoices& choices);
/// What the hidden states of teachers take outside the arena, of one micro-batch.
std::int64_t kept_teacher_bytes(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages);
/// What the backend keeps for itself.
std::int64_t workspace_bytes(const Backend& backend, const TrainOptions& options, const WeightTable& table,
                             const std::vector<RunningStage>& stages);

}  // namespace elastiform
