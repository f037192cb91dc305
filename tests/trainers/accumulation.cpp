#include <bit>
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/tolerances.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// Binary digits.
int digits(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n))); }

/// Every element of the padded block: what is outside of active bands never changes and is added too.
void add_all(Weights& to, const Weights& from) {
  float* sum = reinterpret_cast<float*>(to.data());
  const float* x = reinterpret_cast<const float*>(from.data());
  for (std::int64_t i = 0; i < to.table().elements(); ++i) sum[i] += x[i];
}

/// What a step is by definition: whole gradients of every micro-batch in weights of their own, added top down.
struct ByDefinition {
  const Fixture& f;
  CpuBackend& backend;
  Network network{f.space, DType::float32};
  PlanCache plans{network, backend.traits()};
  Arena arena;
  Weights weights;
  std::unique_ptr<Optimizer> optimizer;
  Subnet largest = f.space.largest();
  std::int64_t updates = 0;

  ByDefinition(const Fixture& fixture, CpuBackend& cpu, const Trainer& like)
      : f(fixture), backend(cpu), arena(like.memory().arena), weights(like.weights().shared_table(), DType::float32),
        optimizer(make_optimizer(f.options, weights.shared_table(), cpu)) {
    std::copy_n(like.weights().data(), weights.bytes(), weights.data());
  }

  Weights gradients(const Objective& objective, const std::vector<Subnet>& subnets, std::int64_t t, std::int64_t begin, std::int64_t end) {
    if (end - begin == 1) {
      Weights formed(weights.shared_table(), DType::float32);
      Batch batch;
      f.data->training_batch(f.options.seed, static_cast<std::uint64_t>(t), f.options.sequences, f.space.model().context, batch,
                             begin * f.options.sequences);
      std::vector<LossReport> losses;
      objective.forward_backward({backend, network, largest, weights, formed, arena, plans, true, 1.0 / f.options.accumulation}, subnets,
                                 batch, losses);
      return formed;
    }
    const std::int64_t middle = begin + static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(end - begin))) / 2;
    Weights sum = gradients(objective, subnets, t, begin, middle);
    add_all(sum, gradients(objective, subnets, t, middle, end));
    return sum;
  }

  void step(const Stage& stage, std::int64_t t, const StepReport& like) {
    Weights sum = gradients(*make_objective(stage), like.subnets, t, 0, f.options.accumulation);
    const ActiveBands active(weights.table(), like.subnets);
    BandScratch scratch(weights.table());
    const double norm = global_norm(backend, sum, active, scratch);
    CHECK(norm == like.gradient_norm);
    optimizer->update(backend, weights, sum, active,
                      {.step = updates++,
                       .rate = learning_rate(f.options, t),
                       .warmup = warmup_factor(f.options, t),
                       .gradient_scale = clip_scale(norm, f.options.clip)});
  }
};

}  // namespace

TEST_CASE("a step adds the gradients of its micro-batches in the fixed tree", "[trainers][accumulation][bits]") {
  Fixture f;
  f.options.accumulation = GENERATE(1, 2, 3, 4, 5, 7);
  f.options.sequences = 3;
  f.options.precision = name_of(GENERATE(from_range(precisions_here())));
  const std::size_t stage = GENERATE(0, 1, 2);
  CAPTURE(f.options.accumulation, f.options.precision, stage);
  f.stages = {f.stages[stage]};
  f.stages.front().share = 1;
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool, parse_precision(f.options.precision, "test"));
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  ByDefinition expected(f, backend, trainer);
  for (std::int64_t t = 0; t < 3; ++t) {
    const StepReport report = trainer.step();
    CHECK_FALSE(report.skipped);
    CHECK(report.reduced_bytes == 0);
    expected.step(f.stages.front(), t, report);
  }
  CHECK(weights_hash(trainer.weights()) == weights_hash(expected.weights));
}

TEST_CASE("micro-batches are parts of the batch: their mean is the mean over it", "[trainers][accumulation]") {
  Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer whole(f.space, f.options, f.stages, *f.data, backend);
  const StepReport one = whole.step();
  f.options.accumulation = 4;
  f.options.sequences /= 4;
  Trainer parts(f.space, f.options, f.stages, *f.data, backend);
  const StepReport four = parts.step();
  const double relative = tolerance("accumulation", DType::float32).relative;
  CHECK(four.losses.front().label_loss == Approx(one.losses.front().label_loss).epsilon(relative));
  CHECK(four.gradient_norm == Approx(one.gradient_norm).epsilon(relative));
  CHECK(four.losses.front().tokens == one.losses.front().tokens);
  CHECK(four.tokens == one.tokens);
  CHECK(four.flops == one.flops);
  CHECK(parts.memory().arena < whole.memory().arena);  // what accumulation is for
}

TEST_CASE("accumulated gradients take a buffer for each binary digit of their number, as planned", "[trainers][accumulation][memory]") {
  Fixture f;
  f.options.accumulation = GENERATE(1, 2, 3, 4, 8, 13);
  CAPTURE(f.options.accumulation);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const Trainer::Memory planned = Trainer::plan(f.space, f.options, f.stages, backend);
  CHECK(planned.gradients == digits(f.options.accumulation) * planned.weights);
  const std::int64_t blocks = allocated_blocks();
  const Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  CHECK(trainer.memory().gradients == planned.gradients);
  // Weights, two moments, the arena, cosines and sines, and the buffers.
  CHECK(allocated_blocks() - blocks == 6 + digits(f.options.accumulation));
}

TEST_CASE("a run that accumulates has the same bits on 1 and 3 threads, and when resumed", "[trainers][accumulation][bits]") {
  Fixture f;
  f.options.accumulation = 3;
  f.options.sequences = 4;
  const ThreadPool one(1), three(3);
  CpuBackend serial(one), parallel(three);
  Trainer straight(f.space, f.options, f.stages, *f.data, serial);
  while (!straight.done()) straight.step();
  CHECK(weights_hash(resumed(f, 23, parallel, parallel)->weights()) == weights_hash(straight.weights()));
}

TEST_CASE("an accumulated step that is not finite changes nothing", "[trainers][accumulation]") {
  Fixture f;
  f.options.accumulation = 2;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  trainer.step();
  float& poisoned = trainer.state().weights.view("final.norm.gain").row<float>(0)[0];
  const float kept = poisoned;
  poisoned = std::numeric_limits<float>::infinity();
  const std::string before = weights_hash(trainer.weights());
  CHECK(trainer.step().skipped);
  CHECK(trainer.updates() == 1);
  CHECK(weights_hash(trainer.weights()) == before);
  poisoned = kept;
  CHECK_FALSE(trainer.step().skipped);
}

}  // namespace elastiform
