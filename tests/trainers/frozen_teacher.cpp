// Trainings whose subnets learn the predictions of a network that stays as it is.
#include <cstring>
#include <memory>

#include "supernet/initialization.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/frozen_teacher.hpp"
#include "trainers/step_flops.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

/// Sandwiches of three subnets under a teacher that is larger than any of them.
struct Taught : Fixture {
  std::uint64_t teacher_seed = 9;

  explicit Taught(const std::string& objective = "labels+teacher", const std::string& sampler = "sandwich") {
    options.steps = 12, options.sequences = 6;
    options.teacher = parse_subnet("e64:3xh4k2f96");
    stages = {{.share = 1, .steps = 0, .sampler = sampler, .objective = objective}};
    resolve_stages(stages, options.steps);
  }
  std::unique_ptr<const Weights> teacher() const {
    return std::make_unique<const Weights>(random_weights(teacher_space(space.model(), *options.teacher), DType::float32, teacher_seed));
  }
  std::unique_ptr<Trainer> trainer(Backend& backend, std::optional<std::int64_t> limit = {}) const {
    return std::make_unique<Trainer>(space, options, stages, *data, backend, limit, alone(), nullptr, teacher());
  }
  std::string hash(Backend& backend, std::optional<std::int64_t> limit = {}) const {
    const auto trained = trainer(backend, limit);
    while (!trained->done()) trained->step();
    CHECK(trained->skipped_steps() == 0);
    return weights_hash(trained->weights());
  }
};

TEST_CASE("hidden states without backward are those of a training pass, bit for bit", "[supernet][bits]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const Subnet subnet = random_subnet(space, 3);
  Cpu cpu(2);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 1);
  Weights gradients(weights.shared_table(), DType::float32);
  const Batch batch = random_batch(space, 3, space.model().context, 4);
  const std::int64_t rows = batch.targets_count(), ld = padded_ld(rows, subnet.embed);
  std::vector<float> one(static_cast<std::size_t>(rows * ld)), other(one.size());
  const auto view = [&](std::vector<float>& values) {
    return View{reinterpret_cast<std::byte*>(values.data()), rows, subnet.embed, ld, DType::float32};
  };
  const BackendTraits traits = cpu.backend.traits();
  const ActivationPlan plan = network.plan_training(traits, subnet, {.batch = batch.sequences, .tokens = batch.tokens});
  Arena arena(std::max(plan.arena_bytes, network.plan_hidden(traits, subnet, batch.sequences, batch.tokens)));
  network.forward_backward(cpu.backend, weights, gradients, subnet, batch, {}, {}, view(one), plan, arena);
  arena.reset_peak();
  network.hidden(cpu.backend, weights, subnet, batch, view(other), arena);
  CHECK(arena.peak() == network.plan_hidden(traits, subnet, batch.sequences, batch.tokens));
  CHECK(one == other);
}

TEST_CASE("what equals its teacher has nothing to learn from it", "[trainers][teacher]") {
  Taught f("teacher", "largest");
  f.stages.front().hidden_weight = 2;
  f.options.teacher = f.space.largest();
  Cpu cpu(2);
  const auto same = f.trainer(cpu.backend);
  same->begin_with(*f.teacher());
  const StepReport still = same->step();
  CHECK(still.losses.front().teacher_loss == Approx(0).margin(1e-6));
  CHECK(still.losses.front().hidden_loss == 0);
  CHECK(still.gradient_norm == Approx(0).margin(1e-4));
  f.stages.front().objective = "labels+teacher";
  const auto labelled = f.trainer(cpu.backend);
  labelled->begin_with(*f.teacher());
  CHECK(labelled->step().gradient_norm > 1e-2);
}

TEST_CASE("subnets come nearer to their teacher, which decides what they become", "[trainers][teacher]") {
  Taught f("teacher");
  f.options.steps = 40;
  f.stages.front().hidden_weight = 1;
  resolve_stages(f.stages, f.options.steps);
  Cpu cpu(2);
  const auto trainer = f.trainer(cpu.backend);
  const StepReport first = trainer->step();
  REQUIRE(first.losses.size() == 3);
  StepReport last;
  while (!trainer->done()) last = trainer->step();
  for (std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    CHECK(last.losses[i].teacher_loss < 0.8 * first.losses[i].teacher_loss);
    CHECK(last.losses[i].hidden_loss < 0.8 * first.losses[i].hidden_loss);
  }
  const std::string one = weights_hash(trainer->weights());
  f.teacher_seed = 10;
  CHECK(f.hash(cpu.backend) != one);
}

TEST_CASE("a taught training: same bits on any number of threads, under the least memory and when resumed", "[trainers][teacher][bits]") {
  Taught f(GENERATE("labels+teacher", "teacher"), GENERATE("balanced", "sandwich"));
  f.options.accumulation = 2;
  f.stages.front().hidden_weight = GENERATE(0.0, 0.5);
  CAPTURE(f.stages.front().objective, f.stages.front().sampler);
  Cpu one(1), two(2);
  const std::string expected = f.hash(one.backend);
  CHECK(f.hash(two.backend) == expected);
  const auto plan = [&](std::optional<std::int64_t> limit) { return Trainer::plan(f.space, f.options, f.stages, two.backend, limit); };
  REQUIRE(plan({}).least_arena < plan({}).arena);
  CHECK(f.hash(two.backend, plan({}).least_arena) == expected);
  const auto first = f.trainer(one.backend);
  while (first->next_step() < 5) first->step();
  save_checkpoint(*first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  const auto second = f.trainer(two.backend);
  load_checkpoint(*second, f.folder / "supernet.h5");
  while (!second->done()) second->step();
  CHECK(weights_hash(second->weights()) == expected);
}

TEST_CASE("a frozen teacher is part of the planned memory and of a step's FLOPs", "[trainers][teacher][memory]") {
  Taught f;
  Cpu cpu(2);
  const auto trainer = f.trainer(cpu.backend);
  const Trainer::Memory planned = Trainer::plan(f.space, f.options, f.stages, cpu.backend), held = trainer->memory();
  CHECK(planned.teacher == held.teacher);
  CHECK(planned.arena == held.arena);
  CHECK(planned.total() == held.total());
  const std::int64_t elements = WeightTable(teacher_space(f.space.model(), *f.options.teacher)).elements();
  CHECK(held.teacher == 4 * elements);
  const double taught = trainer->step().flops;
  f.stages.front().objective = "labels";
  CHECK(Trainer::plan(f.space, f.options, f.stages, cpu.backend).teacher == 0);
  Trainer plain(f.space, f.options, f.stages, *f.data, cpu.backend);
  CHECK(plain.memory().teacher == 0);
  CHECK(taught > plain.step().flops);
  // A teacher far larger than its students needs more of the arena than their passes do.
  f.stages.front().objective = "labels+teacher", f.options.teacher = parse_subnet("e256:h16k8f512");
  const auto large = f.trainer(cpu.backend, Trainer::plan(f.space, f.options, f.stages, cpu.backend).least_arena);
  CHECK_FALSE(large->step().skipped);
}

TEST_CASE("a teacher costs what a plain network does, whatever tuning its students have", "[trainers][teacher]") {
  Taught f;
  f.options.teacher = f.space.largest();
  ModelConfig tuned = f.space.model();
  tuned.tuning.method = TuningMethod::lora, tuned.tuning.rank = 4, tuned.tuning.alpha = 8;
  const CostModel plain(f.space, {}, f.options.sequences, [](const WeightTable&) { return 0; });
  CHECK(teacher_flops(tuned, f.options) == forward_flops(plain, f.options, f.space.largest(), 0));
  CHECK(teacher_flops(f.space.model(), f.options) == forward_flops(plain, f.options, f.space.largest(), 0));
}

TEST_CASE("where a step uphill moves no bit, the teacher of SAM's second pass is that of the first", "[trainers][teacher][bits]") {
  Taught f(GENERATE("labels+teacher", "teacher"));
  f.options.accumulation = 2;
  Cpu cpu(2);
  const std::string plain = f.hash(cpu.backend);
  f.options.step_rule = "sam", f.options.rho = 1e-30;
  CHECK(f.hash(cpu.backend) == plain);
  CHECK(Trainer::plan(f.space, f.options, f.stages, cpu.backend).rule == f.trainer(cpu.backend)->memory().rule);
}

TEST_CASE("where another stage has a teacher, ESAM chooses among the sequences of one without", "[trainers][teacher][bits]") {
  Taught f;
  f.options.step_rule = "esam", f.options.accumulation = 2;
  f.options.teacher = f.space.smallest();  // its hidden states are narrower than those of the largest, so no stage without it may keep any
  f.stages = {{.share = 0.5, .steps = 0, .sampler = "largest", .objective = "labels"},
              {.share = 0.5, .steps = 0, .sampler = "largest", .objective = "labels+teacher"}};
  resolve_stages(f.stages, f.options.steps);
  Cpu one(1), two(2);
  const std::string expected = f.hash(one.backend);
  CHECK(f.hash(two.backend) == expected);
  // The first half is that of a training whose every stage goes without.
  const auto mixed = f.trainer(two.backend);
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest", .objective = "labels"}};
  resolve_stages(f.stages, f.options.steps);
  const auto plain = f.trainer(two.backend);
  for (int step = 0; step < 6; ++step) CHECK(mixed->step().gradient_norm == plain->step().gradient_norm);
}

TEST_CASE("an objective that needs a teacher is refused where there is none", "[trainers][teacher][wrong]") {
  Taught f(GENERATE("labels+teacher", "teacher"));
  f.options.teacher.reset();
  Cpu cpu(1);
  CHECK_THROWS_WITH(Trainer(f.space, f.options, f.stages, *f.data, cpu.backend),
                    Contains("a run with a teacher") && Contains("elastiform import"));
  CHECK_THROWS_AS(Trainer::plan(f.space, f.options, f.stages, cpu.backend), InputError);
}

}  // namespace
}  // namespace elastiform
