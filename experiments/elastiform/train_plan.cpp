#include "experiments/elastiform/train_plan.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/subnet_output.hpp"
#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "search/prefix_evaluator.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {
namespace {

constexpr double kFewTokens = 5;  // per parameter; below it a network has seen too little to be judged

double tokens_of(const Recipe& recipe) {
  return static_cast<double>(recipe.train.steps) * static_cast<double>(sequences_of_step(recipe.train)) * recipe.space.model().context;
}

double tokens_per_parameter(const Recipe& recipe) {
  return tokens_of(recipe) / static_cast<double>(cost_model_of(recipe).of(recipe.space.largest()).parameters);
}

// Seconds of a run at the rate of five steps of its longest stage, after one that warms caches and primitives up.
double estimated_seconds(const Recipe& recipe, const TextData& data, Backend& backend, std::optional<std::int64_t> activations,
                         Communicator& ranks) {
  auto stage =
      *std::max_element(recipe.stages.begin(), recipe.stages.end(), [](const Stage& a, const Stage& b) { return a.steps < b.steps; });
  auto options = recipe.train;
  options.steps = stage.steps = 6;
  stage.share = 1;
  Trainer trainer(recipe.space, options, {stage}, data, backend, activations, ranks);
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

double expected_flops(const Recipe& recipe) {
  const auto costs = cost_model_of(recipe);
  const double rows = static_cast<double>(sequences_of_step(recipe.train)) * recipe.space.model().context;
  double flops = 0;
  std::int64_t begin = 0;
  for (const auto& stage : recipe.stages) {
    const auto sampler = make_sampler(recipe.space, stage, recipe.train.seed);
    const auto sampled = std::min<std::int64_t>(stage.steps, 200);
    double sum = 0;
    for (std::int64_t i = 0; i < sampled; ++i) {
      const auto step = i * stage.steps / sampled;
      for (const auto& subnet : sampler->sample(static_cast<std::uint64_t>(begin + step), static_cast<std::uint64_t>(step))) {
        double macs = static_cast<double>(costs.frame(subnet.embed).macs);
        for (const auto& genes : subnet.blocks) macs += static_cast<double>(costs.block(subnet.embed, genes).macs);
        sum += 6 * macs * rows;  // forward 2, backward 4
      }
    }
    if (sampled > 0) flops += sum / static_cast<double>(sampled) * static_cast<double>(stage.steps);
    begin += stage.steps;
  }
  return flops;
}

// Planning reads neither weights nor text: weights of the smallest network stand in, so that the plan of a space that does not fit is shown.
std::int64_t evaluation_bytes(const Recipe& recipe, const TextData& data, const ThreadPool& pool, const Compute& compute) {
  const auto smallest = SearchSpace::of(recipe.space.model(), recipe.space.smallest());
  const Weights unread(std::make_shared<const WeightTable>(smallest), DType::float32);
  const Network network(recipe.space, DType::float32);
  const ScoringSet set{Split::search, recipe.space.model().context, recipe.train.log_segments};
  const std::vector<Subnet> ends{recipe.space.smallest(), recipe.space.middle(), recipe.space.largest()};
  return PrefixEvaluator(network, unread, data, set, pool, compute).plan_bytes(ends);
}

std::optional<std::int64_t> activation_limit(const Recipe& recipe, const Backend& backend, std::int64_t evaluation,
                                             std::optional<std::int64_t> memory_limit, const Communicator& ranks) {
  if (!memory_limit) return std::nullopt;
  const PlannedMemory memory{Trainer::plan(recipe.space, recipe.train, recipe.stages, backend, std::nullopt, ranks), evaluation,
                             ranks.size()};
  if (*memory_limit < memory.least())
    throw InputError({"--memory-limit", fmt::format("at least {} for this recipe", memory_limit_text(memory.least())),
                      memory_limit_text(*memory_limit, Rounded::down),
                      fmt::format("{} more, or fewer sequences, a shorter context, a smaller space",
                                  memory_limit_text(memory.least() - *memory_limit))});
  return *memory_limit - (memory.total() - memory.trainer.arena);
}

namespace {

std::string what_is_recomputed(const Trainer::Memory& memory) {
  if (memory.arena >= memory.arena_keeping_all) return "they are";
  const double percent = 100 * memory.recomputed_share;
  if (percent < 0.5) return "backward recomputes elementwise work";
  return fmt::format("backward recomputes {:.0f} % of the largest's forward FLOPs", percent);
}

}  // namespace

void print_memory(std::FILE* stream, const PlannedMemory& memory) {
  const auto& trainer = memory.trainer;
  const auto unit = [](std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  fmt::print(stream, "memory: {} = weights {} + gradients {} + optimizer {} + activations {} + workspace {} + live losses {}\n",
             unit(memory.total()), unit(trainer.weights), unit(trainer.gradients), unit(trainer.optimizer), unit(trainer.arena),
             unit(trainer.workspace), unit(memory.evaluation));
  fmt::print(stream, "    activations would take {} if all were kept; {}\n", unit(trainer.arena_keeping_all), what_is_recomputed(trainer));
  fmt::print(stream, "    the lowest --memory-limit is {}\n", memory_limit_text(memory.least()));
  fmt::print(stream, "    writing a checkpoint takes up to {} more\n", unit(PlannedMemory::kCheckpoint));
  if (memory.ranks > 1) fmt::print(stream, "    all of this is of one of {} processes\n", memory.ranks);
  const double available = static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (static_cast<double>(memory.total() * memory.ranks + PlannedMemory::kCheckpoint) > available)
    fmt::print(stream, "warning: {} are free now: the machine may swap; --memory-limit, a smaller batch, context or space need less\n",
               bytes_text(available));
}

void print_plan(std::FILE* stream, const Recipe& recipe, const PlannedMemory& memory) {
  const auto costs = cost_model_of(recipe);
  fmt::print(stream, "space: {} subnets\n", grouped(space_size(recipe.space).str()));
  Table table(cost_header());
  for (const auto& subnet : {recipe.space.smallest(), recipe.space.middle(), recipe.space.largest()})
    table.row(cost_row(format(subnet), costs.of(subnet)));
  fmt::print(stream, "{}", table.text());
  print_memory(stream, memory);
  fmt::print(stream, "training: {} steps of {}{} sequences of {} bytes, {} tokens, {:.1f} per parameter of the largest, {} FLOP in {}\n",
             grouped(recipe.train.steps), recipe.train.accumulation > 1 ? fmt::format("{} x ", recipe.train.accumulation) : "",
             recipe.train.sequences, recipe.space.model().context, count_text(tokens_of(recipe)), tokens_per_parameter(recipe),
             count_text(expected_flops(recipe)), recipe.train.precision);
  if (tokens_per_parameter(recipe) < kFewTokens)
    fmt::print(stream, "warning: fewer than {} tokens per parameter: more steps or a smaller space would serve better\n", kFewTokens);
}

int dry_run(const Recipe& recipe, const CommonOptions& common, std::optional<std::int64_t> memory_limit) {
  const bool json = common.json;
  Communicator& ranks = ranks_of(common);
  const ThreadPool pool(threads_of(common));
  const Compute compute = training_compute(recipe, common.device);
  const auto made = make_backend(compute, pool);
  Backend& backend = *made;
  const TextData data = open_data(recipe);
  const std::int64_t evaluation = evaluation_bytes(recipe, data, pool, compute);
  const std::optional<std::int64_t> activations = activation_limit(recipe, backend, evaluation, memory_limit, ranks);
  const PlannedMemory memory{Trainer::plan(recipe.space, recipe.train, recipe.stages, backend, activations, ranks), evaluation,
                             ranks.size()};
  print_plan(text_stream(json), recipe, memory);
  if (common.job != nullptr) common.job->call_followers();
  const double seconds = estimated_seconds(recipe, data, backend, activations, ranks);
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
