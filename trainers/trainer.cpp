#include "trainers/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/plan_cache.hpp"
#include "supernet/skip_profile.hpp"
#include "trainers/frozen_teacher.hpp"
#include "trainers/gradient_sum.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/registry.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/sharp_sequences.hpp"
#include "trainers/step_flops.hpp"
#include "trainers/trainer_state.hpp"
#include "trainers/training_memory.hpp"

namespace elastiform {
struct Trainer::Parts {
  SearchSpace space;
  TrainOptions options;
  std::vector<Stage> stages;
  std::vector<RunningStage> running;
  const DataSource& data;
  Backend& backend;
  Network network;
  CostModel costs;
  ActivationChoices choices;
  ArenaNeeds needs;
  ArenaBytes arena_bytes;
  Arena arena;
  LargestPlan largest_plan;
  std::optional<GrowingArena> away;  // outside of memory
  PlanCache plans;
  const Subnet largest;
  std::optional<FrozenTeacher> frozen;
  double flops_of_teacher = 0;  // of its pass over a step's batch
  Communicator& ranks;
  GradientSum gradients;
  State state;
  // Of one step, kept for the next: a steady step allocates only what its report holds.
  Batch batch;
  std::vector<LossReport> micro_losses;
  static constexpr std::size_t kNumbers = 5;
  std::vector<double> losses;             // of all micro-batches: kNumbers a subnet
  std::vector<double> squares;            // of the gradients of all micro-batches, for train.noise_scale
  std::optional<GradientNoise> estimate;  // of the step, which counts if the step does
  std::vector<double> learned;            // of all micro-batches: what they teach the selection of tokens
  MemoryBlock token_losses;               // of one, where the selection learns or the rule has a choice of sequences
  SharpSequences sharp;                   // of this rank's micro-batches, for a pass over some sequences
  ActiveBands active;
  const ActiveBands all;
  BandScratch bands;
  std::int64_t teacher_bytes;
  MemoryBlock teachers;  // of this rank's micro-batches

  Parts(const SearchSpace& space_, TrainOptions options_, std::vector<Stage> stages_, const DataSource& data_, Backend& backend_,
        std::shared_ptr<const WeightTable> table, std::optional<std::int64_t> activation_limit, Communicator& ranks_,
        MemorySpace* away_space, std::unique_ptr<const Weights> teacher)
      : space(space_), options(std::move(options_)), stages(std::move(stages_)), running(make_stages(space, options, stages)), data(data_),
        backend(backend_), network(space, backend.dtype(), backend.memory()),
        costs(space, {}, options.sequences, [](const WeightTable&) { return 0; }),
        choices(activation_choices(options, away_space != nullptr)),
        needs(arena_needs(network, options, running, backend.traits(), choices)),
        arena_bytes(elastiform::arena_bytes(needs, options, activation_limit)), arena(arena_bytes.capacity, backend.memory()),
        largest_plan(plan_of_largest(network, options, running, backend.traits(), arena_bytes.limit, choices)),
        plans(network, backend.traits(), choices), largest(space.largest()), ranks(ranks_),
        gradients(table, backend, options.accumulation, ranks), state{.weights = Weights(table, backend.dtype(), backend.memory()),
                                                                      .optimizer = make_optimizer(options, table, backend),
                                                                      .rule =
                                                                          find_step_rule(options.step_rule).make(options, table, backend),
                                                                      .average = nullptr,
                                                                      .noise = {},
                                                                      .tokens = make_token_selection(options, space),
                                                                      .precision = make_precision(options, table, backend, ranks.size())},
        active(*table, {}), all(std::vector<bool>(static_cast<std::size_t>(table->band_count()), true)), bands(*table),
        teacher_bytes(kept_teacher_bytes(network, options, running)),
        teachers(allocate_block(gradients.count() * teacher_bytes, backend.memory())) {
    check_noise_scale(options, "recipe: train.noise_scale");
    if (needs_teacher(running)) {
      if (!teacher || !(teacher->table().space() == teacher_space(space.model(), *options.teacher)))
        throw std::logic_error("trainer: an objective needs a teacher, and it is not the recipe's");
      frozen.emplace(std::move(teacher), backend);
      flops_of_teacher = teacher_flops(space.model(), options);
    }
    if (away_space) away.emplace(*away_space).of_at_least(largest_plan.away);  // too little room is said now
    initialize(state.weights, options.seed, &backend, find_entry(inits(), options.init, "recipe: train.init").init);
    const StepRuleEntry& rule = find_step_rule(options.step_rule);
    check_step_rule(options, "recipe: train.step_rule = \"" + options.step_rule + '"');
    if (rule.sharpest_of(options) > 0) sharp = SharpSequences(options.sequences, gradients.count());
    if (state.tokens->learned() > 0 || sharp.chooses())
      token_losses = allocate_block(options.sequences * space.model().context * bytes_of(backend.dtype()));
    if (residual_rule(space.model().residual).profiled) {
      data.training_batch(options.seed, 0, options.sequences, space.model().context, batch, 0);
      profile_skip_gains(network, backend, state.weights, batch, arena);
    }
    state.precision->initialize(backend, state.weights);
    if (options.ema > 0) state.average = std::make_unique<WeightAverage>(options.ema, state.weights, backend);
  }

  const RunningStage& stage_at(std::int64_t step) const {
    for (const RunningStage& stage : running)
      if (step < stage.end) return stage;
    return running.back();
  }

  /// Forward and backward of this rank's micro-batches of step t, their gradients and losses added up with those of the others. The first
  /// pass of a step writes the report. Each pass has a sum of its own.
  Weights& form_gradients(std::int64_t t, const RunningStage& stage, StepReport& report, const RulePass& asked) {
    const Weights* const unperturbed = asked.unperturbed;
    gradients.begin(active, report.subnets);
    // The noise scale looks at a micro-batch's gradients alone, so nothing may be added to them before.
    const auto block_done = [&](int block) {
      if (!options.noise_scale) gradients.block_done(block);
    };
    losses.assign(static_cast<std::size_t>(options.accumulation) * report.subnets.size() * kNumbers, 0);
    const std::int64_t learns = state.tokens->learned();
    if (!unperturbed) learned.assign(static_cast<std::size_t>(options.accumulation * learns), 0);
    PrecisionRule& precision = *state.precision;
    const Weights& values = precision.begin_step(backend, state.weights, active);
    for (std::int64_t i = gradients.first(); i < gradients.first() + gradients.count(); ++i) {
      read_batch(t, i, stage);
      const View of_tokens = token_losses ? losses_of_tokens() : View{};
      Weights& formed = gradients.next();
      ObjectiveContext context = context_of(t, i, stage, values, formed, block_done);
      context.accumulate = begin_gradients(backend, network, formed, report.subnets, *stage.objective, active, bands);
      context.teaching = unperturbed;
      context.token_losses = of_tokens;
      precision.begin_passes(backend, formed);
      if (asked.sharpest > 0) keep_sharpest(asked, report.subnets.front(), i - gradients.first(), context);
      stage.objective->forward_backward(context, report.subnets, batch, micro_losses);
      if (sharp.chooses() && !unperturbed) sharp.before(i - gradients.first(), batch, of_tokens);
      precision.end_passes(backend);
      if (options.noise_scale && !unperturbed)
        squares[static_cast<std::size_t>(i)] = squared(global_norm(backend, formed, active, bands) / precision.loss_scale());
      if (learns > 0 && !unperturbed)
        state.tokens->observe(batch, of_tokens,
                              std::span(learned).subspan(static_cast<std::size_t>(i * learns), static_cast<std::size_t>(learns)));
      gradients.add();
      keep_losses(i);
    }
    Weights& sum = gradients.finish();
    report.flops += flops_of_pass(report.subnets, asked);
    report.reduced_bytes += gradients.reduced_bytes();
    if (!unperturbed || precision.checks_passes()) share_parts(ranks, losses);
    if (unperturbed && precision.checks_passes()) keep_overflows(report.losses);
    if (unperturbed) return sum;
    if (learns > 0) share_parts(ranks, learned);
    report.losses = mean_losses(report.subnets.size());
    if (options.noise_scale) estimate_noise(squared(global_norm(backend, sum, active, bands) / precision.loss_scale()));
    return sum;
  }

  /// Of micro-batch i of step t, which the batch is.
  ObjectiveContext context_of(std::int64_t t, std::int64_t i, const RunningStage& stage, const Weights& values, Weights& formed,
                              BlockDone block_done) {
    const auto step = static_cast<std::uint64_t>(t);
    const std::int64_t first_row = i * batch.rows();
    return {.backend = backend,
            .network = network,
            .largest = largest,
            .weights = values,
            .gradients = formed,
            .arena = arena,
            .plans = plans,
            .share = state.precision->loss_scale() / options.accumulation,
            .label_smoothing = options.label_smoothing,
            .teacher = teacher_of(i - gradients.first(), stage),
            .frozen = frozen ? &*frozen : nullptr,
            .block_done = block_done,
            .dropout = {options.dropout, options.seed, step, first_row},
            .noise = {.seed = options.seed, .step = step, .first_row = first_row},
            .activation_limit = arena_bytes.limit,
            .checks_passes = state.precision->checks_passes(),
            .away = away ? &*away : nullptr};
  }

  /// Leaves of the batch, and of what a teacher said of it, the sequences whose loss has risen most.
  void keep_sharpest(const RulePass& asked, const Subnet& first, std::int64_t micro_batch, ObjectiveContext& context) {
    label_losses(context, first, batch);
    const std::span<const int> numbers = sharp.choose(micro_batch, batch, context.token_losses, asked.sharpest);
    const std::int64_t rows = batch.targets_count() / batch.sequences;
    if (!context.teacher.empty()) {
      std::int64_t to = 0;
      for (const int number : numbers) {
        if (number != to) backend.copy(context.teacher.row_range(to * rows, rows), context.teacher.row_range(number * rows, rows));
        ++to;
      }
      context.teacher = context.teacher.row_range(0, to * rows);
    }
    keep_sequences(batch, numbers);
    context.token_losses = {};
  }

  /// Of all micro-batches, whoever forms them.
  double flops_of_pass(const std::vector<Subnet>& subnets, const RulePass& asked) const {
    const double whole = pass_flops(costs, options, subnets, batch.kept.count, batch.images.masked.count);
    if (asked.sharpest == 0) return whole;
    return whole * asked.sharpest / options.sequences + forward_flops(costs, options, subnets.front(), batch.kept.count);
  }

  /// Micro-batch i of step t, what of it the stage hides, and which of its tokens middle blocks get.
  void read_batch(std::int64_t t, std::int64_t i, const RunningStage& stage) {
    const std::int64_t first = i * options.sequences;
    data.training_batch(options.seed, static_cast<std::uint64_t>(t), options.sequences, space.model().context, batch, first);
    if (stage.masking.count > 0) mask_patches(batch, space.model(), stage.masking, options.seed, static_cast<std::uint64_t>(t), first);
    batch.kept.count = state.tokens->kept(t);
    if (batch.kept.count > 0) state.tokens->select(t, first, batch);
  }

  static double squared(double x) { return x * x; }

  View teacher_of(std::int64_t micro_batch, const RunningStage& stage) {
    if (teacher_bytes == 0 || !stage.objective->is_taught()) return {};  // another stage's may be smaller
    const int embed = stage.objective->needs_teacher() ? frozen->embed() : largest.embed;
    return {teachers.get() + micro_batch * teacher_bytes, batch.targets_count(), embed, padded_ld(batch.targets_count(), embed),
            backend.dtype()};
  }

  /// From ‖g‖² of the micro-batches, which are in the sum divided by their number, and of the sum.
  void estimate_noise(double whole) {
    share_parts(ranks, squares);
    const double n = options.accumulation, small = options.sequences, large = n * small;
    double part = 0;
    for (const double square : squares) part += n * square;  // n² / n
    if (!std::isfinite(part) || !std::isfinite(whole)) return;
    estimate = gradient_noise(part, whole, small, large);
  }

  View losses_of_tokens() const {
    const std::int64_t rows = space.model().head_rows(options.sequences, space.model().context);
    return {token_losses.get(), 1, rows, rows, backend.dtype()};
  }

  void keep_losses(std::int64_t micro_batch) {
    double* numbers = losses.data() + static_cast<std::size_t>(micro_batch) * micro_losses.size() * kNumbers;
    for (const LossReport& loss : micro_losses) {
      *numbers++ = loss.label_loss;
      *numbers++ = loss.teacher_loss;
      *numbers++ = loss.hidden_loss;
      *numbers++ = static_cast<double>(loss.tokens);
      *numbers++ = loss.finite ? 1 : 0;
    }
  }

  /// A later pass may overflow where the first did not.
  void keep_overflows(std::vector<LossReport>& reported) const {
    for (std::size_t i = 0; i < losses.size(); i += kNumbers) {
      LossReport& report = reported[i / kNumbers % reported.size()];
      report.finite = report.finite && losses[i + 4] == 1;
    }
  }

  // In the order of micro-batches, whoever had them.
  std::vector<LossReport> mean_losses(std::size_t subnets) const {
    std::vector<LossReport> means(subnets);
    for (std::size_t i = 0; i < losses.size(); i += kNumbers) {
      LossReport& mean = means[i / kNumbers % subnets];
      mean.label_loss += losses[i], mean.teacher_loss += losses[i + 1], mean.hidden_loss += losses[i + 2];
      mean.tokens += static_cast<std::int64_t>(losses[i + 3]);
      mean.finite = mean.finite && losses[i + 4] == 1;
    }
    for (LossReport& mean : means)
      for (double LossReport::*loss : {&LossReport::label_loss, &LossReport::teacher_loss, &LossReport::hidden_loss})
        mean.*loss /= options.accumulation;
    return means;
  }
};

Trainer::Trainer(const SearchSpace& space, TrainOptions options, std::vector<Stage> stages, const DataSource& data, Backend& backend,
                 std::optional<std::int64_t> activation_limit, Communicator& ranks, MemorySpace* away,
                 std::unique_ptr<const Weights> teacher)
    : parts_(std::make_unique<Parts>(space, std::move(options), std::move(stages), data, backend,
                                     std::make_shared<const WeightTable>(space), activation_limit, ranks, away, std::move(teacher))) {}
Trainer::~Trainer() = default;

StepReport Trainer::step() {
  Parts& p = *parts_;
  const std::int64_t t = p.state.next_step;
  const RunningStage& stage = p.stage_at(t);
  StepReport report;
  report.step = t;
  report.subnets = stage.sampler->sample(static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(t - stage.begin));
  report.first_taught = stage.objective->first_taught(report.subnets.size());
  report.follows_hidden = stage.objective->hidden_weight() > 0;
  report.masked_patches = stage.masking.count;
  p.active.assign(p.state.weights.table(), report.subnets, [&](const TensorSpec& tensor) { return stage.objective->trains(tensor); });
  if (p.options.noise_scale) p.squares.assign(static_cast<std::size_t>(p.options.accumulation), 0);
  p.estimate.reset();
  const auto pass = [&](const RulePass& asked) -> Weights& { return p.form_gradients(t, stage, report, asked); };
  Weights& gradients = p.state.rule->gradients({p.backend, p.state.weights, p.active, p.bands, t, pass});
  const double loss_scale = p.state.precision->loss_scale();
  report.gradient_norm = global_norm(p.backend, gradients, p.active, p.bands) / loss_scale;
  report.rate = learning_rate(p.options, t);

  bool finite = std::isfinite(report.gradient_norm);
  for (const LossReport& loss : report.losses)
    finite = finite && std::isfinite(loss.label_loss + loss.teacher_loss + loss.hidden_loss) && loss.finite;
  report.skipped = !finite;
  if (finite) {
    p.state.optimizer->update(p.backend, p.state.weights, gradients, p.active,
                              {.step = p.state.updates,
                               .rate = report.rate,
                               .warmup = warmup_factor(p.options, t),
                               .gradient_scale = clip_scale(report.gradient_norm, p.options.clip) / loss_scale});
    p.state.precision->updated(p.backend, p.state.weights, p.active, t);
    p.state.tokens->learn(p.learned);
    if (p.estimate) p.state.noise.add(*p.estimate);
    ++p.state.updates;
    if (p.state.average) p.state.average->update(p.backend, p.state.weights, p.state.optimizer->moves_idle() ? p.all : p.active);
  } else {
    ++p.state.skipped;
  }
  p.state.precision->end_step(report.subnets, report.losses, finite);
  const ModelConfig& model = p.space.model();
  report.tokens =
      static_cast<std::int64_t>(report.subnets.size()) * p.options.accumulation * model.head_rows(p.options.sequences, model.context);
  if (stage.objective->needs_teacher()) report.flops += p.flops_of_teacher;  // once, whatever the step rule
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
std::string Trainer::precision_summary() const { return parts_->state.precision->summary(); }
std::int64_t Trainer::updates() const { return parts_->state.updates; }
const Weights* Trainer::average() const { return parts_->state.average ? &parts_->state.average->weights() : nullptr; }
const GradientNoise& Trainer::noise() const { return parts_->state.noise; }

void Trainer::begin_with(const Weights& weights) {
  State& state = parts_->state;
  copy_by_name(state.weights, weights);
  state.precision->initialize(parts_->backend, state.weights);
  if (state.average) state.average->weights().assign(state.weights);
}

Trainer::State& Trainer::state() { return parts_->state; }
const Trainer::State& Trainer::state() const { return parts_->state; }

Trainer::Memory Trainer::memory() const {
  const Parts& p = *parts_;
  return {.weights = p.state.weights.bytes() + p.state.precision->bytes(),
          .gradients = p.gradients.bytes(),
          .optimizer = p.state.optimizer->bytes(),
          .rule = p.state.rule->bytes() + p.gradients.count() * p.teacher_bytes + sharp_bytes(p.network, p.options, p.gradients.count()),
          .average = p.state.average ? p.state.average->bytes() : 0,
          .teacher = p.frozen ? p.frozen->bytes() : 0,
          .arena = p.arena.capacity(),
          .workspace = workspace_bytes(p.backend, p.options, p.state.weights.table(), p.running),
          .arena_keeping_all = p.needs.keeping_all,
          .least_arena = least_arena(p.needs, p.options, p.arena_bytes),
          .recomputed_share = p.largest_plan.recomputed_share,
          .tensors = p.largest_plan.tensors,
          .compressed = p.largest_plan.compressed,
          .offloads = p.choices.offloads,
          .away = p.largest_plan.away};
}

}  // namespace elastiform
