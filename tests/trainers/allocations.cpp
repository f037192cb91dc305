// Memory is planned, so a steady step asks the heap for nothing: every buffer that it needs stays with its owner from the step before.
// operator new is replaced for this whole program and counts only between two marks. Sanitizers bring operators of their own, which
// must stay in place to find what they look for, so they run without these tests.
#include "supernet/data/text_data.hpp"
#include "tests/support/sanitized.hpp"

#if !ELASTIFORM_SANITIZED

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "kernels/collectives/communicator.hpp"
#include "kernels/random.hpp"
#include "kernels/scratch_file.hpp"
#include "supernet/plan_cache.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tuned_spaces.hpp"
#include "tests/trainers/masked_fixture.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/trainer.hpp"

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> counted{0};
std::atomic<const void*> escaped{nullptr};  // compilers may leave out memory that nobody else sees

void* counted_memory(std::size_t bytes, std::size_t alignment) {
  if (counting) ++counted;
  void* memory = nullptr;
  if (::posix_memalign(&memory, std::max(alignment, sizeof(void*)), bytes) != 0) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The other forms call these. One that is inlined where its other half is not looks like a mistake to g++.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted_memory(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted_memory(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace elastiform {
namespace {

/// Allocations while `run` runs, on any thread.
template <class Run>
std::int64_t allocations_of(const Run& run) {
  counted = 0;
  counting = true;
  run();
  counting = false;
  return counted;
}

/// Allocations of a steady `run`. A worker that TBB sends for the first time makes the scratch of its kernels, in whichever step that is,
/// so with several threads the median has to hold; with one it is the most.
template <class Run>
std::int64_t steady_allocations_of(int threads, const Run& run) {
  for (int i = 0; i < 4; ++i) run();
  std::array<std::int64_t, 11> each{};
  for (std::int64_t& one : each) one = allocations_of(run);
  std::sort(each.begin(), each.end());
  return threads == 1 ? each.back() : each[each.size() / 2];
}

/// A training step below the trainer: all that runs once for each subnet, and the update.
struct Steps {
  Cpu cpu;
  Network network;
  Weights weights, gradients;
  Batch batch;
  PlanCache plans;
  std::array<Subnet, 3> subnets;  // the largest teaches the others
  ActiveBands active;
  BandScratch bands;
  std::int64_t limit;
  Arena arena;
  const std::unique_ptr<Objective> objective = make_objective({});
  std::unique_ptr<Optimizer> optimizer;
  std::int64_t updates = 0;

  Steps(const SearchSpace& space, int threads, Precision precision, const TrainOptions& options, std::int64_t bytes)
      : cpu(threads, precision), network(space, DType::float32), weights(random_weights(space, DType::float32, 1)),
        gradients(weights.shared_table(), DType::float32), batch(random_batch(space, 11, space.model().context, 2)),
        plans(network, cpu.backend.traits()), subnets{space.largest(), space.middle(), space.smallest()}, active(weights.table(), subnets),
        bands(weights.table()),
        limit(network.plan_training(cpu.backend.traits(), space.largest(), {batch.sequences, batch.tokens, true}, bytes).arena_bytes),
        arena(limit + Arena::bytes_for(batch.rows(), space.max_embed(), DType::float32)),
        optimizer(make_optimizer(options, weights.shared_table(), cpu.backend)) {}

  void step() {
    const ArenaScope scope(arena);
    const View hidden = arena.matrix(batch.rows(), subnets.front().embed, DType::float32);
    bool accumulate = begin_gradients(cpu.backend, network, gradients, subnets, *objective, active, bands);
    for (const Subnet& subnet : subnets) {
      const bool taught = &subnet != subnets.data();
      const Teacher teacher{taught ? ConstView(hidden) : ConstView{}, subnets.front().embed};
      const ActivationPlan& plan = plans.of(subnet, {batch.sequences, batch.tokens, taught}, limit);
      network.forward_backward(cpu.backend, weights, gradients, subnet, batch,
                               {.teacher_weight = 0.5, .share = 1.0 / 3, .accumulate = accumulate}, teacher, taught ? View{} : hidden, plan,
                               arena);
      accumulate = true;
    }
    const double norm = global_norm(cpu.backend, gradients, active, bands);
    optimizer->update(cpu.backend, weights, gradients, active, {.step = updates++, .rate = 1e-3, .gradient_scale = clip_scale(norm, 1)});
  }
};

/// Few enough subnets that a sampler soon has drawn them all.
SearchSpace small_space() {
  ModelConfig model = preset_model("llama");
  model.context = 24;
  model.head_dim = 4;
  const SearchSpace::Block block{{2}, {.widths = {}, .ratios = {1, 2}}};
  return SearchSpace(model, {8, 16}, {2}, {block, block});
}

/// With matrices that are coded in 8 bits.
SearchSpace wide_space() {
  ModelConfig model = preset_model("llama");
  model.context = 8;
  model.head_dim = 16;
  const SearchSpace::Block block{{2, 4}, {.widths = {96, 160}, .ratios = {}}};
  return SearchSpace(model, {48, 64}, {1, 2}, {block, block});
}

std::string letters(std::size_t bytes) {
  RandomStream random(1, Purpose::test);
  std::string text;
  while (text.size() < bytes) text += static_cast<char>('a' + random.below(26));
  return text;
}

}  // namespace

TEST_CASE("allocations are counted, on the caller and on workers", "[trainers][memory]") {
  const Cpu cpu(2);
  CHECK(allocations_of([] {}) == 0);
  CHECK(allocations_of([] { escaped = std::vector<int>(3).data(); }) == 1);
  struct alignas(128) Aligned {
    int value = 0;
  };
  CHECK(allocations_of([] { escaped = std::make_unique<Aligned>().get(); }) == 1);
  // A worker that comes for the first time is noted by the pool.
  CHECK(allocations_of([&] { cpu.pool.for_each(64, [](std::int64_t) { escaped = std::vector<int>(3).data(); }); }) >= 64);
}

TEST_CASE("a steady pass and update allocate nothing", "[trainers][memory]") {
  const std::string preset = GENERATE("llama", "gpt2"), policy = GENERATE("lazy-local", "catch-up", "dense");
  const Precision precision = GENERATE(from_range(precisions_here()));
  const int threads = GENERATE(1, 2);
  const bool least_memory = GENERATE(false, true);  // then backward computes again what forward dropped
  CAPTURE(preset, policy, name_of(precision), threads, least_memory);
  TrainOptions options;
  options.policy = policy;
  Steps steps(tiny_space(preset), threads, precision, options, least_memory ? 0 : kNoLimit);
  steps.step();
  const std::int64_t blocks = allocated_blocks();
  CHECK(steady_allocations_of(threads, [&] { steps.step(); }) == 0);
  CHECK(allocated_blocks() == blocks);
}

TEST_CASE("a steady update of any optimizer allocates nothing", "[trainers][memory]") {
  const OptimizerEntry& entry = GENERATE(from_range(optimizers().begin(), optimizers().end()));
  const std::string policy = GENERATE("lazy-local", "catch-up");
  if (!entry.refuses(parse_band_policy(policy)).empty()) return;
  const int threads = GENERATE(1, 2);
  CAPTURE(entry.name, policy, threads);
  TrainOptions options;
  options.optimizer = entry.name, options.policy = policy;
  Steps steps(wide_space(), threads, Precision::f32, options, kNoLimit);
  steps.step();
  const std::int64_t blocks = allocated_blocks();
  CHECK(steady_allocations_of(threads, [&] { steps.step(); }) == 0);
  CHECK(allocated_blocks() == blocks);
}

TEST_CASE("a steady pass and update of a tuning allocate nothing", "[trainers][memory][tuning]") {
  const SearchSpace plain = tiny_space("gpt2");
  const Tuning tuning = GENERATE_COPY(lora(plain.model()), ssf(plain.model()), adapters(), bitfit());
  const int threads = GENERATE(1, 2);
  CAPTURE(static_cast<int>(tuning.method), threads);
  Steps steps(with_tuning(plain, tuning), threads, Precision::f32, {}, kNoLimit);
  steps.step();
  CHECK(steady_allocations_of(threads, [&] { steps.step(); }) == 0);
}

TEST_CASE("operands that are rounded, activations that are compressed or wait in a file ask for nothing more", "[trainers][memory]") {
  const auto [precision, activations] = GENERATE(table<std::string, std::string>({{"fp16", "exact"},
                                                                                  {"fp8", "exact"},
                                                                                  {"bf16-pure", "exact"},
                                                                                  {"f32", "4bit"},
                                                                                  {"fp8", "4bit"},
                                                                                  {"bf16-pure", "4bit"},
                                                                                  {"f32", "away"},
                                                                                  {"fp16", "away"}}));
  const int threads = GENERATE(1, 2);
  const Precision compute = find_precision(precision).compute;
  if (compute != Precision::f32 && precisions_here().back() != compute) return;
  CAPTURE(precision, activations, threads);
  const SearchSpace wide = wide_space();
  ModelConfig model = wide.model();
  model.head_dim = 32, model.context = 24;
  const SearchSpace::Block block{{8}, {.widths = {1024}, .ratios = {}}};
  const SearchSpace space(model, {320}, {1, 2}, {block, block});
  const TemporaryFolder folder;
  const TextData data(folder.write("text.txt", letters(40000)),
                      {.text = "text.txt", .tokenizer = "bytes", .splits = {80, 10, 10}, .split_block = 4096}, space.model().context);
  TrainOptions options;
  options.sequences = 12, options.steps = 100;
  options.precision = precision;
  if (activations == "4bit") options.activations = activations;
  std::vector<Stage> stages{{.share = 1, .steps = 0, .sampler = "largest"}};
  resolve_stages(stages, options.steps);
  Cpu cpu(threads, compute);
  const bool away = activations == "away";
  ScratchFile file(folder.path(), "test");
  std::optional<std::int64_t> limit;
  if (away) {  // the lowest under which something is sent
    const Trainer::Memory memory = Trainer::plan(space, options, stages, cpu.backend, std::nullopt, alone(), true);
    limit = memory.least_arena;
    while (*limit < memory.arena_keeping_all && Trainer::plan(space, options, stages, cpu.backend, limit, alone(), true).away == 0)
      *limit += (memory.arena_keeping_all - memory.least_arena) / 16;
  }
  Trainer trainer(space, options, stages, data, cpu.backend, limit, alone(), away ? &file : nullptr);
  CHECK((trainer.memory().compressed > 0) == (activations == "4bit"));
  CHECK((trainer.memory().away > 0) == away);
  for (int i = 0; i < 8; ++i) trainer.step();
  const std::int64_t blocks = allocated_blocks();
  CHECK(steady_allocations_of(threads, [&] { trainer.step(); }) == 3);  // lists of subnets and losses, genes of one
  if (threads == 1) CHECK(allocated_blocks() == blocks);                // a worker that comes for the first time makes its scratch
}

TEST_CASE("a steady step that hides patches allocates what its report holds", "[trainers][memory][masked]") {
  const int threads = GENERATE(1, 2);
  CAPTURE(threads);
  MaskedFixture f;
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest", .objective = "masked_patches"}};
  resolve_stages(f.stages, f.options.steps);
  Cpu cpu(threads);
  const auto trainer = f.trainer(cpu.backend);
  for (int i = 0; i < 8; ++i) trainer->step();
  CHECK(steady_allocations_of(threads, [&] { trainer->step(); }) == 3);  // lists of subnets and losses, genes of one
}

TEST_CASE("a steady step of the trainer allocates what its report holds", "[trainers][memory]") {
  const std::string sampler = GENERATE("largest", "balanced", "sandwich");
  const int threads = GENERATE(1, 2);
  const Precision precision = GENERATE(from_range(precisions_here()));
  const auto [accumulation, rule] =
      GENERATE(table<int, std::string>({{1, "plain"}, {3, "plain"}, {3, "sam"}, {3, "looksam"}, {3, "esam"}}));
  CAPTURE(sampler, threads, name_of(precision), accumulation, rule);
  const SearchSpace space = small_space();
  const TemporaryFolder folder;
  const TextData data(folder.write("text.txt", letters(40000)),
                      {.text = "text.txt", .tokenizer = "bytes", .splits = {80, 10, 10}, .split_block = 4096}, space.model().context);
  TrainOptions options;
  options.sequences = 11;
  options.accumulation = accumulation;
  options.dropout = accumulation > 1 && rule != "esam" ? 0.1 : 0;  // which esam refuses
  options.step_rule = rule, options.look_every = 2;
  if (rule != "plain") options.ema = 0.9, options.noise_scale = true;
  std::vector<Stage> stages{{.share = 1, .steps = 0, .sampler = sampler}};
  if (sampler == "sandwich") stages.front().objective = "labels+largest", stages.front().random = 2;
  resolve_stages(stages, options.steps);
  options.precision = name_of(precision);
  Cpu cpu(threads, precision);
  Trainer trainer(space, options, stages, data, cpu.backend);
  while (trainer.next_step() < 80) trainer.step();  // every subnet has its plans
  // Two lists, of subnets and of losses; of each subnet the genes of its blocks; for a draw the widths that it chooses from.
  const std::int64_t subnets = sampler == "sandwich" ? 4 : 1, draws = sampler == "sandwich" ? 2 : sampler == "balanced" ? 1 : 0;
  CHECK(steady_allocations_of(threads, [&] { trainer.step(); }) == 2 + subnets + draws);
  const std::int64_t blocks = allocated_blocks();
  for (int i = 0; i < 10; ++i) trainer.step();
  CHECK(allocated_blocks() == blocks);
}

}  // namespace elastiform

#endif
