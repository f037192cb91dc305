#include "trainers/objectives/objective.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "trainers/frozen_teacher.hpp"
#include "trainers/registry.hpp"

namespace elastiform {
namespace {

/// Runs one subnet as planned and asserts that the arena used what the plan says, to the byte; a pass that is forward alone may use less.
/// number: of the subnet among the step's.
LossReport run_planned(const ObjectiveContext& c, const Subnet& subnet, int number, const Batch& batch, LossOptions options,
                       const Teacher& teacher, View keep_hidden) {
  options.label_smoothing = c.label_smoothing;
  options.dropout = c.dropout;
  options.noise = c.noise;
  options.noise.pass = number;
  options.checks_gradient = c.checks_passes;
  const std::int64_t before = c.arena.used(), left = std::min(c.arena.capacity(), c.activation_limit) - before;
  const PassShape pass{.batch = batch.sequences,
                       .tokens = batch.tokens,
                       .with_teacher = !teacher.hidden.empty(),
                       .kept = batch.kept.count,
                       .dropout = c.dropout.rate,
                       .masked = batch.images.masked.count};
  const ActivationPlan& plan = c.plans.of(subnet, pass, left);
  c.arena.reset_peak();
  const LossReport report =
      c.network.forward_backward(c.backend, c.weights, c.gradients, subnet, batch, options, teacher, keep_hidden, plan, c.arena,
                                 c.block_done, c.away ? c.away->of_at_least(plan.away_bytes) : nullptr);
  const std::int64_t used = c.arena.peak() - before;
  if (options.forward_only ? used > plan.arena_bytes : used != plan.arena_bytes)
    throw std::logic_error("subnet " + format(subnet) + " used " + std::to_string(used) + " arena bytes, planned " +
                           std::to_string(plan.arena_bytes));
  return report;
}

/// Cross-entropy with the text's next token, or an image's class.
class Labels final : public Objective {
 public:
  void forward_backward(const ObjectiveContext& context, std::span<const Subnet> subnets, const Batch& batch,
                        std::vector<LossReport>& reports) const override {
    reports.clear();
    LossOptions options{.share = context.share / static_cast<double>(subnets.size()),
                        .token_losses = context.token_losses,
                        .accumulate = context.accumulate};
    for (const Subnet& subnet : subnets) {
      reports.push_back(run_planned(context, subnet, static_cast<int>(reports.size()), batch, options, {}, {}));
      options.accumulate = true;
      options.token_losses = {};
    }
  }
};

/// What a stage says of a teacher.
LossOptions taught_by(const Stage& stage, double teacher_weight) {
  return {.label_weight = 1 - teacher_weight,
          .teacher_weight = teacher_weight,
          .hidden_weight = stage.hidden_weight,
          .temperature = stage.temperature};
}

/// In-place distillation (arXiv 1903.05134): the largest subnet learns from labels, the others from labels and its logits of the same
/// step. The teacher is constant: no gradient flows back into it.
class LabelsAndLargest final : public Objective {
 public:
  explicit LabelsAndLargest(const Stage& stage) : options_(taught_by(stage, stage.teacher_weight)) {}

  void forward_backward(const ObjectiveContext& context, std::span<const Subnet> subnets, const Batch& batch,
                        std::vector<LossReport>& reports) const override {
    const Subnet& largest = subnets.front();
    if (largest != context.largest) throw std::logic_error("labels+largest: the largest subnet is not the first of the step");
    const ArenaScope scope(context.arena);
    const View hidden =
        context.teacher.empty() ? context.arena.matrix(batch.targets_count(), largest.embed, context.network.dtype()) : context.teacher;
    const double share = context.share / static_cast<double>(subnets.size());
    reports.clear();
    const LossOptions first{.share = share, .token_losses = context.token_losses, .accumulate = context.accumulate};
    reports.push_back(run_planned(context, largest, 0, batch, first, {}, context.teaching ? View{} : hidden));
    LossOptions taught = options_;
    taught.share = share;
    for (const Subnet& subnet : subnets.subspan(1))
      reports.push_back(run_planned(context, subnet, static_cast<int>(reports.size()), batch, taught,
                                    {.hidden = hidden, .embed = largest.embed, .weights = context.teaching}, {}));
  }
  bool needs_largest() const override { return true; }
  double hidden_weight() const override { return options_.hidden_weight; }

 private:
  LossOptions options_;
};

/// Every subnet, the largest too, learns the predictions of a network that stays as it is (arXiv 1503.02531): without that the largest would
/// forget what it was imported with. The teacher passes a batch once, for all subnets and all passes of a step.
class FromTeacher final : public Objective {
 public:
  FromTeacher(const Stage& stage, double teacher_weight) : options_(taught_by(stage, teacher_weight)) {}

  void forward_backward(const ObjectiveContext& context, std::span<const Subnet> subnets, const Batch& batch,
                        std::vector<LossReport>& reports) const override {
    if (context.frozen == nullptr) throw std::logic_error("an objective with a teacher in a training without one");
    const FrozenTeacher& teacher = *context.frozen;
    const ArenaScope scope(context.arena);
    const View hidden =
        context.teacher.empty() ? context.arena.matrix(batch.targets_count(), teacher.embed(), context.network.dtype()) : context.teacher;
    if (!context.teaching) teacher.hidden(context.backend, batch, hidden, context.arena);
    LossOptions options = options_;
    options.share = context.share / static_cast<double>(subnets.size());
    options.token_losses = context.token_losses;
    options.accumulate = context.accumulate;
    reports.clear();
    for (const Subnet& subnet : subnets) {
      reports.push_back(run_planned(context, subnet, static_cast<int>(reports.size()), batch, options, teacher.with(hidden), View{}));
      options.accumulate = true;
      options.token_losses = {};
    }
  }
  bool needs_teacher() const override { return true; }
  double hidden_weight() const override { return options_.hidden_weight; }

 private:
  LossOptions options_;
};

/// Masked autoencoders (arXiv 2111.06377): subnets see a part of the patches, and the decoder beside them guesses the values of the others. The
/// batch comes masked.
class MaskedPatchesObjective final : public Objective {
 public:
  explicit MaskedPatchesObjective(const Stage& stage) : mask_ratio_(stage.mask_ratio), normalizes_(stage.normalize_patches) {}

  void forward_backward(const ObjectiveContext& context, std::span<const Subnet> subnets, const Batch& batch,
                        std::vector<LossReport>& reports) const override {
    reports.clear();
    LossOptions options{.share = context.share / static_cast<double>(subnets.size()), .accumulate = context.accumulate};
    for (const Subnet& subnet : subnets) {
      reports.push_back(run_planned(context, subnet, static_cast<int>(reports.size()), batch, options, {}, {}));
      options.accumulate = true;
    }
  }
  double mask_ratio() const override { return mask_ratio_; }
  bool normalizes_patches() const override { return normalizes_; }

 private:
  double mask_ratio_;
  bool normalizes_;
};

constexpr std::array<ObjectiveEntry, 5> kObjectives{{
    {"labels", "cross-entropy with the next token or the class", "",
     [](const Stage&) -> std::unique_ptr<Objective> { return std::make_unique<Labels>(); }},
    {"labels+largest", "labels, and for all but the largest its logits of the same step (weight `teacher_weight`)",
     "teacher_weight temperature hidden_weight",
     [](const Stage& stage) -> std::unique_ptr<Objective> { return std::make_unique<LabelsAndLargest>(stage); }},
    {"labels+teacher", "labels, and the logits of the network that a run was imported or fine-tuned from (weight `teacher_weight`)",
     "teacher_weight temperature hidden_weight",
     [](const Stage& stage) -> std::unique_ptr<Objective> { return std::make_unique<FromTeacher>(stage, stage.teacher_weight); }},
    {"teacher", "those logits alone (arXiv 1503.02531)", "temperature hidden_weight",
     [](const Stage& stage) -> std::unique_ptr<Objective> { return std::make_unique<FromTeacher>(stage, 1); }},
    {"masked_patches", "values of hidden patches of images from the others, by a decoder that is trained beside them (arXiv 2111.06377)",
     "mask_ratio normalize_patches",
     [](const Stage& stage) -> std::unique_ptr<Objective> { return std::make_unique<MaskedPatchesObjective>(stage); }},
}};

}  // namespace

bool Objective::trains(const TensorSpec& tensor) const {
  if (mask_ratio() == 0) return !tensor.of_decoder;
  return tensor.name != "head" && tensor.name != "head.bias";
}

bool begin_gradients(Backend& backend, const Network& network, Weights& gradients, std::span<const Subnet> subnets,
                     const Objective& objective, const ActiveBands& active, BandScratch& scratch) {
  scratch.first.assign(gradients.table(), subnets.first(1), [&](const TensorSpec& tensor) { return objective.trains(tensor); });
  const bool writes = scratch.first == active;
  zero_active(
      backend, gradients, active, [&](const TensorSpec& tensor) { return !writes || !network.writes_gradient(tensor); }, scratch);
  return !writes;
}

void label_losses(const ObjectiveContext& context, const Subnet& subnet, const Batch& batch) {
  run_planned(context, subnet, 0, batch, {.token_losses = context.token_losses, .forward_only = true}, {}, {});
}

std::span<const ObjectiveEntry> objectives() { return kObjectives; }

const ObjectiveEntry& find_objective(std::string_view name) { return find_entry(objectives(), name, "recipe: stage.objective"); }

std::unique_ptr<Objective> make_objective(const Stage& stage) { return find_objective(stage.objective).make(stage); }

}  // namespace elastiform
