#include "trainers/trainer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/plan_cache.hpp"
#include "supernet/skip_profile.hpp"
#include "supernet/work_sizes.hpp"
#include "trainers/gradient_sum.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/step_flops.hpp"
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

/// Of the arena beside the passes' plans. For a second pass over the batch teachers stay outside of it.
std::int64_t extra_arena_bytes(const Network& network, const TrainOptions& options, const Objective& objective) {
  if (find_step_rule(options.step_rule).repeats()) return 0;
  return objective.extra_arena_bytes(network.space(), network.dtype(), std::int64_t{options.sequences} * network.space().model().context);
}

/// What the hidden states of teachers take, of one micro-batch.
std::int64_t kept_teacher_bytes(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages) {
  if (!find_step_rule(options.step_rule).repeats()) return 0;
  const std::int64_t rows = std::int64_t{options.sequences} * network.space().model().context;
  for (const RunningStage& stage : stages)
    if (stage.objective->needs_largest()) return Arena::bytes_for(rows, network.space().max_embed(), network.dtype());
  return 0;
}

std::int64_t rule_bytes(const TrainOptions& options, const WeightTable& table, std::int64_t kept_teachers) {
  return find_step_rule(options.step_rule).blocks * table.elements() * bytes_of(DType::float32) + kept_teachers;
}

std::int64_t average_bytes(const TrainOptions& options, const WeightTable& table) {
  return options.ema > 0 ? WeightAverage::state_bytes(table) : 0;
}

void check_options(const TrainOptions& options) {
  if (options.noise_scale && options.accumulation < 2)
    throw InputError({"recipe: train.noise_scale", "train.accumulation of 2 or more, as it compares two sizes of batches",
                      std::to_string(options.accumulation), "halve train.sequences and double train.accumulation"});
}

ArenaNeeds arena_needs(const Network& network, const TrainOptions& options, const std::vector<RunningStage>& stages,
                       const BackendTraits& traits) {
  ArenaNeeds needs;
  const SearchSpace& space = network.space();
  const std::int64_t context = space.model().context, most_kept = make_token_selection(options, space)->most_kept();
  for (const RunningStage& stage : stages) {
    const std::int64_t extra = extra_arena_bytes(network, options, *stage.objective);
    for (const std::int64_t kept : {std::int64_t{0}, most_kept}) {
      const PassShape pass{.batch = options.sequences,
                           .tokens = context,
                           .with_teacher = stage.objective->needs_largest(),
                           .kept = kept,
                           .dropout = options.dropout};
      needs.keeping_all = std::max(needs.keeping_all, network.plan_training(traits, space.largest(), pass).arena_bytes + extra);
      needs.unlimited = std::max(needs.unlimited, network.unlimited_training_bytes(traits, space.largest(), pass) + extra);
      needs.least = std::max(needs.least, network.plan_training(traits, space.largest(), pass, 0).arena_bytes + extra);
    }
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
    const std::int64_t extra = extra_arena_bytes(network, options, *stage.objective);
    const PassShape pass{.batch = options.sequences, .tokens = context, .dropout = options.dropout};
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
  std::vector<double> losses;   // of all micro-batches: three numbers a subnet
  std::vector<double> squares;  // of the gradients of all micro-batches, for train.noise_scale
  std::vector<double> learned;  // of all micro-batches: what they teach the selection of tokens
  MemoryBlock token_losses;     // of one, where the selection learns
  ActiveBands active;
  const ActiveBands all;
  BandScratch bands;
  std::int64_t teacher_bytes;
  MemoryBlock teachers;  // of this rank's micro-batches

  Parts(const SearchSpace& space_, TrainOptions options_, std::vector<Stage> stages_, const TextData& data_, Backend& backend_,
        std::shared_ptr<const WeightTable> table, std::optional<std::int64_t> activation_limit, Communicator& ranks_)
      : space(space_), options(std::move(options_)), stages(std::move(stages_)), running(make_stages(space, options, stages)), data(data_),
        backend(backend_), network(space, backend.dtype(), backend.memory()),
        costs(space, {}, options.sequences, [](const WeightTable&) { return 0; }),
        needs(arena_needs(network, options, running, backend.traits())), arena(arena_bytes(needs, activation_limit), backend.memory()),
        plans(network, backend.traits()), largest(space.largest()), ranks(ranks_),
        gradients(table, backend, options.accumulation, ranks), state{.weights = Weights(table, backend.dtype(), backend.memory()),
                                                                      .optimizer = make_optimizer(options, table, backend),
                                                                      .rule =
                                                                          find_step_rule(options.step_rule).make(options, table, backend),
                                                                      .average = nullptr,
                                                                      .noise = {},
                                                                      .tokens = make_token_selection(options, space)},
        active(*table, {}), all(std::vector<bool>(static_cast<std::size_t>(table->band_count()), true)), bands(*table),
        teacher_bytes(kept_teacher_bytes(network, options, running)),
        teachers(allocate_block(gradients.count() * teacher_bytes, backend.memory())) {
    check_options(options);
    initialize(state.weights, options.seed);
    if (options.ema > 0) state.average = std::make_unique<WeightAverage>(options.ema, state.weights, backend);
    if (state.tokens->learned() > 0) token_losses = allocate_block(options.sequences * space.model().context * bytes_of(backend.dtype()));
    if (residual_rule(space.model().residual).profiled) {
      data.training_batch(options.seed, 0, options.sequences, space.model().context, batch, 0);
      profile_skip_gains(network, backend, state.weights, batch);
    }
  }

  const RunningStage& stage_at(std::int64_t step) const {
    for (const RunningStage& stage : running)
      if (step < stage.end) return stage;
    return running.back();
  }

  /// Forward and backward of this rank's micro-batches of step t, their gradients and losses added up with those of the others. The first
  /// pass of a step writes the report; a later one, at perturbed weights, is given those of before. Each pass has a sum of its own.
  Weights& form_gradients(std::int64_t t, const RunningStage& stage, StepReport& report, const Weights* unperturbed) {
    gradients.begin(active, report.subnets);
    // The noise scale looks at a micro-batch's gradients alone, so nothing may be added to them before.
    const auto block_done = [&](int block) {
      if (!options.noise_scale) gradients.block_done(block);
    };
    losses.assign(static_cast<std::size_t>(options.accumulation) * report.subnets.size() * 3, 0);
    const std::int64_t learns = state.tokens->learned();
    if (!unperturbed) learned.assign(static_cast<std::size_t>(options.accumulation * learns), 0);
    for (std::int64_t i = gradients.first(); i < gradients.first() + gradients.count(); ++i) {
      data.training_batch(options.seed, static_cast<std::uint64_t>(t), options.sequences, space.model().context, batch,
                          i * options.sequences);
      batch.kept.count = state.tokens->kept(t);
      if (batch.kept.count > 0) state.tokens->select(t, i * options.sequences, batch);
      const View of_tokens = learns > 0 ? losses_of_tokens() : View{};
      Weights& formed = gradients.next();
      const bool accumulate = begin_gradients(backend, network, formed, report.subnets, active, bands);
      stage.objective->forward_backward({.backend = backend,
                                         .network = network,
                                         .largest = largest,
                                         .weights = state.weights,
                                         .gradients = formed,
                                         .arena = arena,
                                         .plans = plans,
                                         .accumulate = accumulate,
                                         .share = 1.0 / options.accumulation,
                                         .teacher = teacher_of(i - gradients.first()),
                                         .teaching = unperturbed,
                                         .token_losses = of_tokens,
                                         .block_done = block_done,
                                         .dropout = {options.dropout, options.seed, static_cast<std::uint64_t>(t), i * batch.rows()}},
                                        report.subnets, batch, micro_losses);
      if (options.noise_scale && !unperturbed) squares[static_cast<std::size_t>(i)] = squared(global_norm(backend, formed, active, bands));
      if (learns > 0 && !unperturbed)
        state.tokens->observe(batch, of_tokens,
                              std::span(learned).subspan(static_cast<std::size_t>(i * learns), static_cast<std::size_t>(learns)));
      gradients.add();
      double* numbers = losses.data() + static_cast<std::size_t>(i) * micro_losses.size() * 3;
      for (const LossReport& loss : micro_losses) {
        *numbers++ = loss.label_loss;
        *numbers++ = loss.teacher_loss;
        *numbers++ = static_cast<double>(loss.tokens);
      }
    }
    Weights& sum = gradients.finish();
    report.reduced_bytes += gradients.reduced_bytes();
    if (unperturbed) return sum;
    share_parts(ranks, losses);
    if (learns > 0) share_parts(ranks, learned);
    report.losses = mean_losses(report.subnets.size());
    if (options.noise_scale) estimate_noise(squared(global_norm(backend, sum, active, bands)));
    return sum;
  }

  static double squared(double x) { return x * x; }

  View teacher_of(std::int64_t micro_batch) {
    if (teacher_bytes == 0) return {};
    return {teachers.get() + micro_batch * teacher_bytes, batch.rows(), largest.embed, padded_ld(batch.rows(), largest.embed),
            backend.dtype()};
  }

  /// From ‖g‖² of the micro-batches, which are in the sum divided by their number, and of the sum.
  void estimate_noise(double whole) {
    share_parts(ranks, squares);
    const double n = options.accumulation, small = options.sequences, large = n * small;
    double part = 0;
    for (const double square : squares) part += n * square;  // n² / n
    if (!std::isfinite(part) || !std::isfinite(whole)) return;
    state.noise.add(gradient_noise(part, whole, small, large));
  }

  View losses_of_tokens() const {
    const std::int64_t rows = options.sequences * space.model().context;
    return {token_losses.get(), 1, rows, rows, backend.dtype()};
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
  p.active.assign(p.state.weights.table(), report.subnets);
  if (p.options.noise_scale) p.squares.assign(static_cast<std::size_t>(p.options.accumulation), 0);
  int passes = 0;
  const auto pass = [&](const Weights* unperturbed) -> Weights& {
    ++passes;
    return p.form_gradients(t, stage, report, unperturbed);
  };
  Weights& gradients = p.state.rule->gradients({p.backend, p.state.weights, p.active, p.bands, t, pass});
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
    p.state.tokens->learn(p.learned);
    ++p.state.updates;
    if (p.state.average)
      p.state.average->update(p.backend, p.state.weights, parse_band_policy(p.options.policy) == BandPolicy::dense ? p.all : p.active);
  } else {
    ++p.state.skipped;
  }
  report.tokens = static_cast<std::int64_t>(report.subnets.size()) * p.options.accumulation * p.batch.rows();
  report.flops = static_cast<double>(passes) * pass_flops(p.costs, p.options, report.subnets, p.batch.kept.count);
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
const Weights* Trainer::average() const { return parts_->state.average ? &parts_->state.average->weights() : nullptr; }
const GradientNoise& Trainer::noise() const { return parts_->state.noise; }
Trainer::State& Trainer::state() { return parts_->state; }
const Trainer::State& Trainer::state() const { return parts_->state; }

Trainer::Memory Trainer::memory() const {
  const Parts& p = *parts_;
  return {.weights = p.state.weights.bytes(),
          .gradients = p.gradients.bytes(),
          .optimizer = p.state.optimizer->bytes(),
          .rule = p.state.rule->bytes() + p.gradients.count() * p.teacher_bytes,
          .average = p.state.average ? p.state.average->bytes() : 0,
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
  check_options(options);
  const std::vector<RunningStage> running = make_stages(space, options, stages);
  const ArenaNeeds needs = arena_needs(network, options, running, backend.traits());
  const std::int64_t arena = arena_bytes(needs, activation_limit);
  return {.weights = weights,
          .gradients = GradientSum::plan_bytes(table, backend.dtype(), options.accumulation, ranks),
          .optimizer = find_optimizer(options.optimizer).state_bytes(options, table),
          .rule = rule_bytes(options, table, options.accumulation / ranks.size() * kept_teacher_bytes(network, options, running)),
          .average = average_bytes(options, table),
          .arena = arena,
          .workspace = workspace_bytes(backend, options, table),
          .arena_keeping_all = needs.keeping_all,
          .least_arena = needs.least,
          .recomputed_share = recomputed_share(network, options, running, backend.traits(), arena)};
}

std::int64_t training_state_bytes(const TrainOptions& options, const WeightTable& table) {
  const std::int64_t further = std::bit_width(static_cast<unsigned>(options.accumulation)) - 1;  // SumTree::slots() of one rank
  return find_optimizer(options.optimizer).state_bytes(options, table) + rule_bytes(options, table, 0) + average_bytes(options, table) +
         further * table.elements() * bytes_of(DType::float32);
}

}  // namespace elastiform
