#include "experiments/elastiform/train_plan.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/devices.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/subnet_output.hpp"
#include "kernels/errors.hpp"
#include "kernels/scratch_file.hpp"
#include "search/feasible_set.hpp"
#include "search/prefix_evaluator.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/patch_decoder.hpp"
#include "trainers/frozen_teacher.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/step_flops.hpp"
#include "trainers/step_rules/step_rule.hpp"
#include "trainers/token_selection/token_selection.hpp"

namespace elastiform {
namespace {

constexpr double kFewTokens = 5;  // per parameter; below it a network has seen too little to be judged

// Of images each is one.
double tokens_of(const Recipe& recipe) {
  const ModelConfig& model = recipe.space.model();
  return static_cast<double>(recipe.train.steps) * static_cast<double>(model.head_rows(sequences_of_step(recipe.train), model.context));
}

double tokens_per_parameter(const Recipe& recipe) {
  return tokens_of(recipe) / static_cast<double>(cost_model_of(recipe).of(recipe.space.largest()).parameters);
}

// Seconds of a run at the rate of five steps of its longest stage, after one that warms caches and primitives up.
double estimated_seconds(const Recipe& recipe, const DataSource& data, Backend& backend, std::optional<std::int64_t> activations,
                         Communicator& ranks, MemorySpace* away) {
  auto stage =
      *std::max_element(recipe.stages.begin(), recipe.stages.end(), [](const Stage& a, const Stage& b) { return a.steps < b.steps; });
  auto options = recipe.train;
  options.steps = stage.steps = 6;
  stage.share = 1;
  std::unique_ptr<const Weights> teacher;  // whose values change no time
  if (options.teacher)
    teacher = std::make_unique<Weights>(std::make_shared<const WeightTable>(teacher_space(recipe.space.model(), *options.teacher)),
                                        DType::float32);
  Trainer trainer(recipe.space, options, {stage}, data, backend, activations, ranks, away, std::move(teacher));
  trainer.step();
  double flops = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (!trainer.done()) {
    if (interrupted()) throw Interrupted();
    flops += trainer.step().flops;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return seconds.count() / flops * expected_flops(recipe);
}

}  // namespace

std::unique_ptr<MemorySpace> make_away(const MemoryOptions& options, Device device) {
  if (!options.offload) return nullptr;
  if (*options.offload == kPinned) return make_pinned_space(device);
  return std::make_unique<ScratchFile>(*options.offload, "--offload");
}

double expected_flops(const Recipe& recipe) {
  const auto costs = cost_model_of(recipe);
  const auto tokens = make_token_selection(recipe.train, recipe.space);
  const RulePasses passes = find_step_rule(recipe.train.step_rule).passes_of(recipe.train);
  double flops = 0, taught = 0;
  std::int64_t begin = 0;
  for (const auto& stage : recipe.stages) {
    const auto sampler = make_sampler(recipe.space, stage, recipe.train.seed);
    const double ratio = make_objective(stage)->mask_ratio();
    const int masked = ratio > 0 ? masked_patches(recipe.space.model(), ratio) : 0;
    const auto sampled = std::min<std::int64_t>(stage.steps, 200);
    double sum = 0;
    for (std::int64_t i = 0; i < sampled; ++i) {
      const auto step = i * stage.steps / sampled;
      const auto subnets = sampler->sample(static_cast<std::uint64_t>(begin + step), static_cast<std::uint64_t>(step));
      const std::int64_t kept = tokens->kept(begin + step);
      sum += passes.whole * pass_flops(costs, recipe.train, subnets, kept, masked);
      if (passes.forward > 0) sum += passes.forward * forward_flops(costs, recipe.train, subnets.front(), kept);
    }
    if (sampled > 0) flops += sum / static_cast<double>(sampled) * static_cast<double>(stage.steps);
    if (recipe.train.teacher && make_objective(stage)->needs_teacher())
      taught += teacher_flops(recipe.space.model(), recipe.train) * static_cast<double>(stage.steps);
    begin += stage.steps;
  }
  return flops + taught;
}

// Planning reads neither weights nor text: weights of the smallest network stand in, so that the plan of a space that does not fit is shown.
std::int64_t evaluation_bytes(const Recipe& recipe, const DataSource& data, const ThreadPool& pool, const Compute& compute) {
  const auto smallest = SearchSpace::of(recipe.space.model(), recipe.space.smallest());
  const Weights unread(std::make_shared<const WeightTable>(smallest), DType::float32);
  const Network network(recipe.space, DType::float32);
  const ScoringSet set{Split::search, recipe.space.model().context, recipe.train.log_segments};
  const std::vector<Subnet> ends{recipe.space.smallest(), recipe.space.middle(), recipe.space.largest()};
  return PrefixEvaluator(network, unread, data, set, pool, compute).plan_bytes(ends);
}

namespace {

// What a device has not is refused before anything is allocated there, with both numbers.
void require_free(const PlannedMemory& memory, const Backend& backend) {
  const std::string device(backend.name());
  const std::optional<std::int64_t> free = free_bytes_of(parse_device(device, "backend"));
  if (!free || memory.total() <= *free) return;
  const std::string remedy =
      memory.least() <= *free
          ? "--memory-limit " + memory_limit_text(*free, Rounded::down)
          : "fewer sequences, a shorter context or a smaller space; the least for this recipe is " + memory_limit_text(memory.least());
  throw InputError({"--device " + device, memory_limit_text(memory.total()) + " of free memory, as planned",
                    memory_limit_text(*free, Rounded::down) + " free", remedy});
}

}  // namespace

std::optional<std::int64_t> activation_limit(const Recipe& recipe, const Backend& backend, std::int64_t evaluation,
                                             const MemoryOptions& memory_options, const Communicator& ranks) {
  const bool offloads = memory_options.offload.has_value();
  PlannedMemory memory{Trainer::plan(recipe.space, recipe.train, recipe.stages, backend, std::nullopt, ranks, offloads), evaluation,
                       ranks.size()};
  const std::optional<std::int64_t>& memory_limit = memory_options.limit;
  if (!memory_limit) {
    require_free(memory, backend);
    return std::nullopt;
  }
  if (*memory_limit < memory.least())
    throw InputError({"--memory-limit", fmt::format("at least {} for this recipe", memory_limit_text(memory.least())),
                      memory_limit_text(*memory_limit, Rounded::down),
                      fmt::format("{} more, or fewer sequences, a shorter context, a smaller space",
                                  memory_limit_text(memory.least() - *memory_limit))});
  const std::int64_t activations = *memory_limit - (memory.total() - memory.trainer.arena);
  memory.trainer.arena = std::min(memory.trainer.arena_keeping_all, activations);
  require_free(memory, backend);
  return activations;
}

namespace {

std::string what_is_recomputed(const Trainer::Memory& memory) {
  if (memory.arena >= memory.arena_keeping_all) return "they are";
  const double percent = 100 * memory.recomputed_share;
  if (percent < 0.5) return "backward recomputes elementwise work";
  return fmt::format("backward recomputes {:.0f} % of the largest's forward FLOPs", percent);
}

const char* why_nothing_is_sent(const Trainer::Memory& memory) {
  return memory.arena >= memory.arena_keeping_all ? "all are kept" : "offloading would cost more than computing again";
}

void print_compression(std::FILE* stream, const Recipe& recipe, const Trainer::Memory& memory) {
  if (memory.compressed > 0)
    fmt::print(stream, "    {} of {} tensors of the largest subnet's blocks are compressed ({}): gradients are estimates, losses exact\n",
               memory.compressed, memory.tensors, recipe.train.activations);
  else
    fmt::print(stream, "warning: train.activations = \"{}\" compresses nothing of the largest subnet: {}\n", recipe.train.activations,
               recipe.train.activation_bytes > 0 ? "under train.activation_bytes computing again costs less" : "it would save no memory");
}

}  // namespace

void print_memory(std::FILE* stream, const PlannedMemory& memory) {
  const auto& trainer = memory.trainer;
  const auto unit = [](std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  const auto part = [&](const char* name, std::int64_t bytes) {
    return bytes == 0 ? std::string() : fmt::format(" + {} {}", name, unit(bytes));
  };
  fmt::print(stream, "memory: {} = weights {} + gradients {} + optimizer {}{}{}{} + activations {} + workspace {} + live losses {}\n",
             unit(memory.total()), unit(trainer.weights), unit(trainer.gradients), unit(trainer.optimizer), part("step rule", trainer.rule),
             part("average", trainer.average), part("teacher", trainer.teacher), unit(trainer.arena), unit(trainer.workspace),
             unit(memory.evaluation));
  fmt::print(stream, "    activations would take {} if all were kept; {}\n", unit(trainer.arena_keeping_all), what_is_recomputed(trainer));
  if (trainer.away > 0) fmt::print(stream, "    {} of the largest subnet's wait in {}\n", unit(trainer.away), memory.away);
  else if (trainer.offloads) fmt::print(stream, "    {}; nothing is sent to {}\n", why_nothing_is_sent(trainer), memory.away);
  fmt::print(stream, "    the lowest --memory-limit is {}\n", memory_limit_text(memory.least()));
  fmt::print(stream, "    writing a checkpoint takes up to {} more\n", unit(PlannedMemory::kCheckpoint));
  if (memory.ranks > 1) fmt::print(stream, "    all of this is of one of {} processes\n", memory.ranks);
  if (memory.on_device) return;
  const double available = static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (static_cast<double>(memory.total() * memory.ranks + PlannedMemory::kCheckpoint) > available)
    fmt::print(stream, "warning: {} are free now: the machine may swap; --memory-limit, a smaller batch, context or space need less\n",
               bytes_text(available));
}

namespace {

void print_tuning(std::FILE* stream, const Recipe& recipe) {
  const WeightTable table(recipe.space);
  std::int64_t learns = 0, all = 0;
  for (const TensorSpec& tensor : table.tensors()) {
    all += tensor.rows * tensor.columns;
    if (tensor.trained) learns += tensor.rows * tensor.columns;
  }
  fmt::print(stream, "tuning: {}: {} of {} parameters learn, from the weights {}\n", parametrization_of(recipe.space.model().tuning).help,
             grouped(learns), grouped(all), recipe.base.substr(0, 16));
}

}  // namespace

void print_plan(std::FILE* stream, const Recipe& recipe, const PlannedMemory& memory) {
  const auto costs = cost_model_of(recipe);
  fmt::print(stream, "space: {} subnets\n", grouped(space_size(recipe.space).str()));
  Table table(cost_header(metric_of(recipe.space.model()), false));
  std::vector<std::string> named;  // a space of one or two subnets names them once
  for (const auto& subnet : {recipe.space.smallest(), recipe.space.middle(), recipe.space.largest()}) {
    if (std::find(named.begin(), named.end(), format(subnet)) != named.end()) continue;
    named.push_back(format(subnet));
    table.row(cost_row(named.back(), costs.of(subnet)));
  }
  fmt::print(stream, "{}", table.text());
  if (!recipe.base.empty()) print_tuning(stream, recipe);
  if (needs_teacher(recipe) && recipe.train.teacher)
    fmt::print(stream, "teacher: {}, frozen, weights {}\n", format(*recipe.train.teacher), recipe.teacher.substr(0, 16));
  print_memory(stream, memory);
  if (uses_activation_bytes(recipe.train)) print_compression(stream, recipe, memory.trainer);
  if (recipe.space.model().decoder.present() && make_objective(recipe.stages.back())->mask_ratio() > 0)
    fmt::print(stream,
               "warning: the last stage guesses hidden patches: the head, which names classes, learns nothing after the stages before\n");
  const Metric& metric = metric_of(recipe.space.model());
  const std::string_view unit = recipe.data.tokenizer == "bytes" ? "bytes" : "tokens";
  fmt::print(stream, "training: {} steps of {}{} {}, {} {}, {:.1f} per parameter of the largest, {} FLOP in {}\n",
             grouped(recipe.train.steps), recipe.train.accumulation > 1 ? fmt::format("{} x ", recipe.train.accumulation) : "",
             recipe.train.sequences, metric.classifies ? "images" : fmt::format("sequences of {} {}", recipe.space.model().context, unit),
             count_text(tokens_of(recipe)), metric.inputs, tokens_per_parameter(recipe), count_text(expected_flops(recipe)),
             recipe.train.precision);
  if (recipe.base.empty() && !metric.classifies && tokens_per_parameter(recipe) < kFewTokens)
    fmt::print(stream, "warning: fewer than {} tokens per parameter: more steps or a smaller space would serve better\n", kFewTokens);
}

int dry_run(const Recipe& recipe, const CommonOptions& common, const MemoryOptions& memory_options) {
  const bool json = common.json;
  Communicator& ranks = ranks_of(common);
  const ThreadPool pool(threads_of(common));
  const Compute compute = training_compute(recipe, common.device);
  const auto made = make_backend(compute, pool);
  Backend& backend = *made;
  const auto away = make_away(memory_options, common.device);
  const auto opened = open_data(recipe);
  const DataSource& data = *opened;
  const std::int64_t evaluation = evaluation_bytes(recipe, data, pool, compute);
  const std::optional<std::int64_t> activations = activation_limit(recipe, backend, evaluation, memory_options, ranks);
  const PlannedMemory memory{
      Trainer::plan(recipe.space, recipe.train, recipe.stages, backend, activations, ranks, memory_options.offload.has_value()), evaluation,
      ranks.size(), common.device != Device::cpu, away ? away->name() : ""};
  print_plan(text_stream(json), recipe, memory);
  if (common.job != nullptr) common.job->call_followers();
  const double seconds = estimated_seconds(recipe, data, backend, activations, ranks, away.get());
  fmt::print(text_stream(json), "time: about {} on {}, from five steps; checkpoints and live losses come on top. Nothing was written.\n",
             duration_text(seconds), common.device == Device::cpu ? fmt::format("{} threads", pool.size()) : backend.arithmetic());
  if (!json || !ranks.leads()) return 0;
  const auto costs = cost_model_of(recipe);
  JsonObject object;
  object.add("steps", recipe.train.steps).add("tokens", tokens_of(recipe)).add("tokens_per_parameter", tokens_per_parameter(recipe));
  object.add("flops", expected_flops(recipe)).add("seconds", seconds).add("memory_bytes", memory.total());
  object.add("activation_bytes", memory.trainer.arena).add("activation_bytes_keeping_all", memory.trainer.arena_keeping_all);
  object.add("recomputed_share", memory.trainer.recomputed_share).add("least_memory_bytes", memory.least());
  object.add("size", space_size(recipe.space).str());
  object.add_json("smallest", cost_json(recipe.space.smallest(), costs.of(recipe.space.smallest())).text());
  object.add_json("middle", cost_json(recipe.space.middle(), costs.of(recipe.space.middle())).text());
  object.add_json("largest", cost_json(recipe.space.largest(), costs.of(recipe.space.largest())).text());
  fmt::print("{}\n", object.text());
  return 0;
}

}  // namespace elastiform
