#include "trainers/trainer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/plan_cache.hpp"
#include "supernet/work_sizes.hpp"
#include "trainers/gradient_sum.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// A stage of the recipe with what it is made of.
struct RunningStage {
  std::int64_t begin = 0, end = 0;  // steps
  std::unique_ptr<SubnetSampler> sampler;
  std::unique_ptr<Objective> objective;
};

std::vector<RunningStage> make_stages(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages) {
  std::vector<RunningStage> running;
  std::int64_t begin = 0;
  for (const Stage& stage : stages) {
    RunningStage one{begin, begin + stage.steps, make_sampler(space, stage, options.seed), make_objective(stage)};
    if (one.objective->needs_largest() && !one.sampler->always_has_largest())
      throw InputError({"recipe: stage", "a sampler that trains the largest subnet in every step (sandwich)",
                        "sampler \"" + stage.sampler + "\" with objective \"" + stage.objective + '"', ""});
    begin = one.end;
    running.push_back(std::move(one));
  }
  return running;
}

/// Bytes of the trainer's arena: the stage that needs most, and of its subnets the largest, bound every other.
struct ArenaNeeds {
  std::int64_t keeping_all = 0, unlimited = 0, least = 0;
};

ArenaNeeds arena_needs(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                       const BackendTraits& traits) {
  ArenaNeeds needs;
  const SearchSpace& space = network.space();
  const std::int64_t context = space.model().context;
  for (const RunningStage& stage : stages) {
    const PassShape pass{options.sequences, context, stage.objective->needs_largest(), options.dropout};
    const std::int64_t extra = stage.objective->extra_arena_bytes(space, network.dtype(), options.sequences * context);
    needs.keeping_all = std::max(needs.keeping_all, network.plan_training(traits, space.largest(), pass).arena_bytes + extra);
    needs.unlimited = std::max(needs.unlimited, network.unlimited_training_bytes(traits, space.largest(), pass) + extra);
    needs.least = std::max(needs.least, network.plan_training(traits, space.largest(), pass, 0).arena_bytes + extra);
  }
  return needs;
}

std::int64_t arena_bytes(const ArenaNeeds& needs, std::optional<std::int64_t> limit) {
  if (!limit) return needs.unlimited;
  if (*limit < needs.least)
    throw InputError({"memory limit of activations", "at least " + std::to_string(needs.least) + " bytes", std::to_string(*limit),
                      "fewer sequences, a shorter context or a smaller space need less"});
  return std::min(needs.keeping_all, *limit / Arena::kAlignment * Arena::kAlignment);
}

/// What the largest subnet computes again in an arena of that size, of its forward FLOPs: the most of all stages.
double recomputed_share(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                        const BackendTraits& traits, std::int64_t arena) {
  double most = 0;
  const SearchSpace& space = network.space();
  const std::int64_t context = space.model().context;
  for (const RunningStage& stage : stages) {
    // As an objective runs it: the largest has no teacher.
    const std::int64_t extra = stage.objective->extra_arena_bytes(space, network.dtype(), options.sequences * context);
    const PassShape pass{options.sequences, context, false, options.dropout};
    most = std::max(most, network.plan_training(traits, space.largest(), pass, arena - extra).recomputed_share());
  }
  return most;
}

std::int64_t workspace_bytes(const Backend& backend, const TrainOptions& options, const WeightTable& table) {
  const SearchSpace& space = table.space();
  std::int64_t most = 0;
  for (const TensorSpec& tensor : table.tensors()) {
    const bool in_panels = tensor.role != Role::embedding || !Head::shares_vocabulary(space.model());
    most = std::max(most, backend.workspace_bytes(tensor.rows, tensor.columns, in_panels));
  }
  const std::int64_t tokens = options.sequences * space.model().context;
  return most + kept_bytes_at_most(backend.traits(), work_sizes(table, backend.traits(), tokens, true));
}

}  // namespace

struct Trainer::Parts {
  SearchSpace space;
  TrainOptions options;
  std::vector<Stage> stages;
  std::vector<RunningStage> running;
  const TextData& data;
  Backend& backend;
  Network network;
  CostModel costs;
  ArenaNeeds needs;
  Arena arena;
  PlanCache plans;
  const Subnet largest;
  Communicator& ranks;
  GradientSum gradients;
  State state;
  // Of one step, kept for the next: a steady step allocates only what its report holds.
  Batch batch;
  std::vector<LossReport> micro_losses;
  std::vector<double> losses;  // of all micro-batches: three numbers a subnet
  ActiveBands active;
  BandScratch bands;

  Parts(const SearchSpace& space_, TrainOptions options_, std::vector<Stage> stages_, const TextData& data_, Backend& backend_,
        std::shared_ptr<const WeightTable> table, std::optional<std::int64_t> activation_limit, Communicator& ranks_)
      : space(space_), options(std::move(options_)), stages(std::move(stages_)), running(make_stages(space, options, stages)), data(data_),
        backend(backend_), network(space, backend.dtype(), backend.memory()),
        costs(space, {}, options.sequences, [](std::int64_t, std::int64_t) { return 0; }),
        needs(arena_needs(network, options, running, backend.traits())), arena(arena_bytes(needs, activation_limit), backend.memory()),
        plans(network, backend.traits()), largest(space.largest()), ranks(ranks_),
        gradients(table, backend, options.accumulation, ranks), state{.weights = Weights(table, backend.dtype(), backend.memory()),
                                                                      .optimizer =
                                                                          find_optimizer(options.optimizer).make(options, table, backend)},
        active(*table, {}), bands(*table) {
    initialize(state.weights, options.seed);
  }

  const RunningStage& stage_at(std::int64_t step) const {
    for (const RunningStage& stage : running)
      if (step < stage.end) return stage;
    return running.back();
  }

  /// Forward and backward of this rank's micro-batches of step t, their gradients and losses added up with those of the others.
  const Weights& form_gradients(std::int64_t t, const RunningStage& stage, StepReport& report) {
    active.assign(state.weights.table(), report.subnets);
    gradients.begin(active, report.subnets);
    const auto block_done = [&](int block) { gradients.block_done(block); };
    losses.assign(static_cast<std::size_t>(options.accumulation) * report.subnets.size() * 3, 0);
    for (std::int64_t i = gradients.first(); i < gradients.first() + gradients.count(); ++i) {
      data.training_batch(options.seed, static_cast<std::uint64_t>(t), options.sequences, space.model().context, batch,
                          i * options.sequences);
      Weights& formed = gradients.next();
      const bool accumulate = begin_gradients(backend, network, formed, report.subnets, active, bands);
      const PassDropout dropout{options.dropout, options.seed, static_cast<std::uint64_t>(t), i * batch.rows()};
      stage.objective->forward_backward(
          {backend, network, largest, state.weights, formed, arena, plans, accumulate, 1.0 / options.accumulation, block_done, dropout},
          report.subnets, batch, micro_losses);
      gradients.add();
      double* numbers = losses.data() + static_cast<std::size_t>(i) * micro_losses.size() * 3;
      for (const LossReport& loss : micro_losses) {
        *numbers++ = loss.label_loss;
        *numbers++ = loss.teacher_loss;
        *numbers++ = static_cast<double>(loss.tokens);
      }
    }
    const Weights& sum = gradients.finish();
    report.reduced_bytes = gradients.reduced_bytes();
    share_parts(ranks, losses);
    report.losses = mean_losses(report.subnets.size());
    return sum;
  }

  // In the order of micro-batches, whoever had them.
  std::vector<LossReport> mean_losses(std::size_t subnets) const {
    std::vector<LossReport> means(subnets);
    for (std::size_t i = 0; i < losses.size(); i += 3) {
      LossReport& mean = means[i / 3 % subnets];
      mean.label_loss += losses[i], mean.teacher_loss += losses[i + 1];
      mean.tokens += static_cast<std::int64_t>(losses[i + 2]);
    }
    for (LossReport& mean : means) mean.label_loss /= options.accumulation, mean.teacher_loss /= options.accumulation;
    return means;
  }
};

Trainer::Trainer(const SearchSpace& space, TrainOptions options, std::vector<Stage> stages, const TextData& data, Backend& backend,
                 std::optional<std::int64_t> activation_limit, Communicator& ranks)
    : parts_(std::make_unique<Parts>(space, std::move(options), std::move(stages), data, backend,
                                     std::make_shared<const WeightTable>(space), activation_limit, ranks)) {}
Trainer::~Trainer() = default;

StepReport Trainer::step() {
  Parts& p = *parts_;
  const std::int64_t t = p.state.next_step;
  const RunningStage& stage = p.stage_at(t);
  StepReport report;
  report.step = t;
  report.subnets = stage.sampler->sample(static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(t - stage.begin));
  const Weights& gradients = p.form_gradients(t, stage, report);
  report.gradient_norm = global_norm(p.backend, gradients, p.active, p.bands);
  report.rate = learning_rate(p.options, t);

  bool finite = std::isfinite(report.gradient_norm);
  for (const LossReport& loss : report.losses) finite = finite && std::isfinite(loss.label_loss) && std::isfinite(loss.teacher_loss);
  report.skipped = !finite;
  if (finite) {
    p.state.optimizer->update(p.backend, p.state.weights, gradients, p.active,
                              {.step = p.state.updates,
                               .rate = report.rate,
                               .warmup = warmup_factor(p.options, t),
                               .gradient_scale = clip_scale(report.gradient_norm, p.options.clip)});
    ++p.state.updates;
  } else {
    ++p.state.skipped;
  }
  const std::int64_t rows = p.options.accumulation * p.batch.rows();
  for (const Subnet& subnet : report.subnets) {
    report.tokens += rows;
    report.flops += 6.0 * static_cast<double>(p.costs.additive(subnet).macs) * static_cast<double>(rows);
  }
  ++p.state.next_step;
  return report;
}

std::int64_t Trainer::next_step() const { return parts_->state.next_step; }
const TrainOptions& Trainer::options() const { return parts_->options; }
const std::vector<Stage>& Trainer::stages() const { return parts_->stages; }
const Backend& Trainer::backend() const { return parts_->backend; }
const Network& Trainer::network() const { return parts_->network; }
const Weights& Trainer::weights() const { return parts_->state.weights; }
std::int64_t Trainer::skipped_steps() const { return parts_->state.skipped; }
std::int64_t Trainer::updates() const { return parts_->state.updates; }
Trainer::State& Trainer::state() { return parts_->state; }
const Trainer::State& Trainer::state() const { return parts_->state; }

Trainer::Memory Trainer::memory() const {
  const Parts& p = *parts_;
  return {.weights = p.state.weights.bytes(),
          .gradients = p.gradients.bytes(),
          .optimizer = p.state.optimizer->bytes(),
          .arena = p.arena.capacity(),
          .workspace = workspace_bytes(p.backend, p.options, p.state.weights.table()),
          .arena_keeping_all = p.needs.keeping_all,
          .least_arena = p.needs.least,
          .recomputed_share = recomputed_share(p.network, p.options, p.running, p.backend.traits(), p.arena.capacity())};
}

Trainer::Memory Trainer::plan(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages,
                              const Backend& backend, std::optional<std::int64_t> activation_limit, const Communicator& ranks) {
  const WeightTable table(space);
  const std::int64_t weights = table.elements() * bytes_of(backend.dtype());
  const Network network(space, backend.dtype());
  const std::vector<RunningStage> running = make_stages(space, options, stages);
  const ArenaNeeds needs = arena_needs(network, options, running, backend.traits());
  const std::int64_t arena = arena_bytes(needs, activation_limit);
  return {.weights = weights,
          .gradients = GradientSum::plan_bytes(table, backend.dtype(), options.accumulation, ranks),
          .optimizer = find_optimizer(options.optimizer).state_bytes(options, table.elements(), table.band_count()),
          .arena = arena,
          .workspace = workspace_bytes(backend, options, table),
          .arena_keeping_all = needs.keeping_all,
          .least_arena = needs.least,
          .recomputed_share = recomputed_share(network, options, running, backend.traits(), arena)};
}

std::int64_t training_state_bytes(const TrainOptions& options, std::int64_t elements, std::int64_t bands) {
  const std::int64_t further = std::bit_width(static_cast<unsigned>(options.accumulation)) - 1;  // SumTree::slots() of one rank
  return find_optimizer(options.optimizer).state_bytes(options, elements, bands) + further * elements * bytes_of(DType::float32);
}

}  // namespace elastiform
