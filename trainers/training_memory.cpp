#include "trainers/training_memory.hpp"

#include <algorithm>
#include <bit>

#include "supernet/layers/head.hpp"
#include "supernet/work_sizes.hpp"
#include "trainers/frozen_teacher.hpp"
#include "trainers/gradient_sum.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/sharp_sequences.hpp"
#include "trainers/step_rules/step_rule.hpp"
#include "trainers/token_selection/token_selection.hpp"
#include "trainers/trainer.hpp"
#include "trainers/weight_average.hpp"

namespace elastiform {
namespace {

std::int64_t head_rows(const Network& network, const TrainOptions& options) {
  const ModelConfig& model = network.space().model();
  return model.head_rows(options.sequences, model.context);
}

/// Of the hidden states of an objective's teacher, in the arena unless a second pass over the batch needs them.
std::int64_t hidden_bytes(const Network& network, const TrainOptions& options, const Objective& objective) {
  if (!objective.is_taught()) return 0;
  const int embed = objective.needs_teacher() ? options.teacher->embed : network.space().max_embed();
  return Arena::bytes_for(head_rows(network, options), embed, network.dtype());
}

std::int64_t extra_arena_bytes(const Network& network, const TrainOptions& options, const Objective& objective) {
  return find_step_rule(options.step_rule).repeats() ? 0 : hidden_bytes(network, options, objective);
}

/// A second pass over the batch is at other weights than its teachers.
bool teaches_again(const TrainOptions& options, const std::vector<RunningStage>& stages) {
  return find_step_rule(options.step_rule).repeats() &&
         std::any_of(stages.begin(), stages.end(), [](const RunningStage& stage) { return stage.objective->is_taught(); });
}

std::int64_t rule_bytes(const TrainOptions& options, const WeightTable& table, std::int64_t kept_teachers) {
  const StepRuleEntry& rule = find_step_rule(options.step_rule);
  return rule.blocks * table.elements() * bytes_of(DType::float32) +
         rule.band_numbers * table.band_count() * static_cast<std::int64_t>(sizeof(double)) + kept_teachers;
}

std::int64_t teacher_bytes(const TrainOptions& options, const std::vector<RunningStage>& stages, const ModelConfig& model, DType dtype) {
  return needs_teacher(stages) ? FrozenTeacher::weight_bytes(teacher_space(model, *options.teacher), dtype) : 0;
}

std::int64_t average_bytes(const TrainOptions& options, const WeightTable& table) {
  return options.ema > 0 ? WeightAverage::state_bytes(table) : 0;
}

/// Of plans that compress the recipe says how large they are: gradients depend on them, so no option of a machine may.
ArenaBytes compressed_arena_bytes(const ArenaNeeds& needs, const TrainOptions& options, std::optional<std::int64_t> limit) {
  const std::int64_t planned =
      options.activation_bytes > 0 ? options.activation_bytes / Arena::kAlignment * Arena::kAlignment : needs.unlimited;
  if (planned < needs.least)
    throw InputError({"recipe: train.activation_bytes", "at least " + std::to_string(needs.least) + " bytes",
                      std::to_string(options.activation_bytes),
                      "fewer sequences, fewer bits, a shorter context or a smaller space need less"});
  const std::int64_t capacity = std::max(planned + needs.further_workers, needs.teacher);
  if (limit && *limit < capacity)
    throw InputError({"memory limit of activations", "at least the " + std::to_string(capacity) + " bytes of the recipe's plan",
                      std::to_string(*limit), "train.activation_bytes plans for less"});
  return {capacity, planned};
}

}  // namespace

/// Of the arena beside the passes' plans. For a second pass over the batch teachers stay outside of it.
std::int64_t kept_teacher_bytes(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages) {
  std::int64_t most = 0;
  if (!teaches_again(options, stages)) return most;
  for (const RunningStage& stage : stages) most = std::max(most, hidden_bytes(network, options, *stage.objective));
  return most;
}

std::int64_t sharp_bytes(const Network& network, const TrainOptions& options, std::int64_t micro_batches) {
  if (find_step_rule(options.step_rule).sharpest_of(options) == 0) return 0;
  return SharpSequences::bytes(options.sequences, micro_batches) +
         options.sequences * network.space().model().context * bytes_of(network.dtype());
}

namespace {

/// A pass of the largest subnet in a stage.
PassShape pass_of(const RunningStage& stage, const TrainOptions& options, const ModelConfig& model, std::int64_t kept, bool with_teacher) {
  return {.batch = options.sequences,
          .tokens = model.context - stage.masking.count,
          .with_teacher = with_teacher,
          .kept = kept,
          .dropout = options.dropout,
          .masked = stage.masking.count};
}

}  // namespace

ArenaNeeds arena_needs(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                       const BackendTraits& traits, const ActivationChoices& choices) {
  ArenaNeeds needs;
  const SearchSpace& space = network.space();
  if (choices.compresses() && space.max_depth() > kMostCompressedBlocks)
    throw InputError({"recipe: train.activations",
                      "at most " + std::to_string(kMostCompressedBlocks) + " blocks for \"" + options.activations + '"',
                      std::to_string(space.max_depth()), "use \"exact\""});
  const std::int64_t context = space.model().context;
  const std::vector<std::int64_t> counts = planned_kept(*make_token_selection(options, space));
  for (const RunningStage& stage : stages) {
    const std::int64_t extra = extra_arena_bytes(network, options, *stage.objective);
    for (const std::int64_t kept : counts) {
      const PassShape pass = pass_of(stage, options, space.model(), kept, stage.objective->is_taught());
      needs.keeping_all = std::max(needs.keeping_all, network.plan_training(traits, space.largest(), pass).arena_bytes + extra);
      needs.unlimited = std::max(needs.unlimited, network.unlimited_training_bytes(traits, space.largest(), pass, choices) + extra);
      needs.least = std::max(needs.least, network.plan_training(traits, space.largest(), pass, 0, choices).planned_bytes + extra);
      if (choices.compresses())
        needs.further_workers = std::max(needs.further_workers, further_workers_bytes(space.model(), traits, space.largest(), pass));
    }
  }
  if (needs_teacher(stages)) {  // before the passes of the subnets, in the same arena
    const SearchSpace teacher = teacher_space(space.model(), *options.teacher);
    std::int64_t own = FrozenTeacher::arena_bytes(teacher, traits, options.sequences);
    if (!find_step_rule(options.step_rule).repeats())
      own += Arena::bytes_for(head_rows(network, options), options.teacher->embed, network.dtype());
    needs.teacher = own;
    if (!choices.compresses())
      for (std::int64_t* need : {&needs.keeping_all, &needs.unlimited, &needs.least}) *need = std::max(*need, own);
  }
  if (residual_rule(space.model().residual).profiled) {  // before the first step, in the same arena
    const std::int64_t profile = network.plan_branch_variances(traits, space.largest(), options.sequences, context);
    for (std::int64_t* need : {&needs.keeping_all, &needs.unlimited, &needs.least}) *need = std::max(*need, profile);
  }
  return needs;
}

ArenaBytes arena_bytes(const ArenaNeeds& needs, const TrainOptions& options, std::optional<std::int64_t> limit) {
  if (activation_choices(options).compresses()) return compressed_arena_bytes(needs, options, limit);
  if (!limit) return {needs.unlimited, needs.unlimited};
  if (*limit < needs.least)
    throw InputError({"memory limit of activations", "at least " + std::to_string(needs.least) + " bytes", std::to_string(*limit),
                      "fewer sequences, a shorter context or a smaller space need less"});
  const std::int64_t bytes = std::min(needs.keeping_all, *limit / Arena::kAlignment * Arena::kAlignment);
  return {bytes, bytes};
}

std::int64_t least_arena(const ArenaNeeds& needs, const TrainOptions& options, const ArenaBytes& arena) {
  return activation_choices(options).compresses() ? arena.capacity : needs.least;
}

LargestPlan plan_of_largest(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                            const BackendTraits& traits, std::int64_t limit, const ActivationChoices& choices) {
  LargestPlan most;
  const SearchSpace& space = network.space();
  const std::vector<std::int64_t> counts = planned_kept(*make_token_selection(options, space));
  for (const RunningStage& stage : stages) {
    // As an objective runs it: where the largest teaches, it has no teacher.
    const std::int64_t extra = extra_arena_bytes(network, options, *stage.objective);
    for (const std::int64_t kept : counts) {
      const PassShape pass = pass_of(stage, options, space.model(), kept, stage.objective->needs_teacher());
      const ActivationPlan plan = network.plan_training(traits, space.largest(), pass, limit - extra, choices);
      most.recomputed_share = std::max(most.recomputed_share, plan.recomputed_share());
      most.away = std::max(most.away, plan.away_bytes);
      most.tensors = plan.tensors;
      most.compressed = std::max(most.compressed, plan.compressed);
    }
  }
  return most;
}

std::int64_t workspace_bytes(const Backend& backend, const TrainOptions& options, const WeightTable& table,
                             const std::vector<RunningStage>& stages) {
  const SearchSpace& space = table.space();
  std::int64_t most = 0;
  const bool rounds = find_precision(options.precision).rounds_operands;
  for (const TensorSpec& tensor : table.tensors()) {
    const bool in_panels = tensor.role != Role::embedding || tensor.of_decoder || !Head::shares_vocabulary(space.model());
    const std::int64_t rounded = rounds ? backend.rounding_workspace_bytes(tensor.rows, tensor.columns) : 0;
    most = std::max(most, backend.workspace_bytes(tensor.rows, tensor.columns, in_panels) + rounded);
  }
  const std::int64_t tokens = options.sequences * space.model().stream_tokens(space.model().context);
  WorkSizes sizes = work_sizes(table, backend.traits(), tokens, true);
  if (teaches_again(options, stages)) ++sizes.weight_copies;
  if (needs_teacher(stages))  // which may be larger than what it teaches
    sizes.weight_copies += 1 + teacher_bytes(options, stages, space.model(), DType::float32) / sizes.weight_bytes;
  return most + kept_bytes_at_most(backend.traits(), sizes);
}

Trainer::Memory Trainer::plan(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages,
                              const Backend& backend, std::optional<std::int64_t> activation_limit, const Communicator& ranks,
                              bool offloads) {
  const WeightTable table(space);
  const std::int64_t weights = table.elements() * bytes_of(backend.dtype());
  const Network network(space, backend.dtype());
  check_noise_scale(options, "recipe: train.noise_scale");
  const std::vector<RunningStage> running = make_stages(space, options, stages);
  const ActivationChoices choices = activation_choices(options, offloads);
  const ArenaNeeds needs = arena_needs(network, options, running, backend.traits(), choices);
  const ArenaBytes arena = arena_bytes(needs, options, activation_limit);
  const LargestPlan largest = plan_of_largest(network, options, running, backend.traits(), arena.limit, choices);
  const std::int64_t micro_batches = options.accumulation / ranks.size();
  return {.weights = weights + precision_bytes(options, table),
          .gradients = GradientSum::plan_bytes(table, backend.dtype(), options.accumulation, ranks),
          .optimizer = find_optimizer(options.optimizer).state_bytes(options, table),
          .rule = rule_bytes(options, table, micro_batches * kept_teacher_bytes(network, options, running)) +
                  sharp_bytes(network, options, micro_batches),
          .average = average_bytes(options, table),
          .teacher = teacher_bytes(options, running, space.model(), backend.dtype()),
          .arena = arena.capacity,
          .workspace = workspace_bytes(backend, options, table, running),
          .arena_keeping_all = needs.keeping_all,
          .least_arena = least_arena(needs, options, arena),
          .recomputed_share = largest.recomputed_share,
          .tensors = largest.tensors,
          .compressed = largest.compressed,
          .offloads = offloads,
          .away = largest.away};
}

std::int64_t training_state_bytes(const TrainOptions& options, const WeightTable& table) {
  const std::int64_t further = std::bit_width(static_cast<unsigned>(options.accumulation)) - 1;  // SumTree::slots() of one rank
  return find_optimizer(options.optimizer).state_bytes(options, table) + rule_bytes(options, table, 0) + average_bytes(options, table) +
         further * table.trained_elements() * bytes_of(DType::float32) + precision_bytes(options, table);
}

}  // namespace elastiform
