#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "search/prefix_evaluator.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tolerances.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {
namespace {

struct Dropping : Fixture {
  explicit Dropping(double rate, int accumulation = 1) {
    options.dropout = rate;
    options.accumulation = accumulation;
    options.sequences = 12 / accumulation;
    options.steps = 20;
    resolve_stages(stages, options.steps);
  }
};

std::string train(const Fixture& f, Backend& backend, std::optional<std::int64_t> limit = std::nullopt, Communicator& ranks = alone()) {
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend, limit, ranks);
  while (!trainer.done()) trainer.step();
  return weights_hash(trainer.weights());
}

}  // namespace

TEST_CASE("a training with dropout has the same bits on any threads, under any memory limit, on ranks and when resumed",
          "[trainers][dropout][bits]") {
  const Dropping f(0.2, GENERATE(1, 4));
  const ThreadPool one(1), three(3);
  CpuBackend serial(one), parallel(three);
  const std::string expected = train(f, serial);
  CHECK(train(f, parallel) == expected);
  const Trainer::Memory plan = Trainer::plan(f.space, f.options, f.stages, parallel);
  CHECK(train(f, parallel, plan.least_arena) == expected);
  CHECK(train(f, serial, kNoLimit) == expected);
  CHECK(weights_hash(resumed(f, 13, parallel, serial)->weights()) == expected);
  if (f.options.accumulation == 1) return;
  run_ranks(2, [&](Communicator& ranks) {
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    if (train(f, backend, std::nullopt, ranks) != expected) throw std::runtime_error("other bits on two ranks");
  });
}

TEST_CASE("dropout drops in every step anew, costs planned memory, and not when off", "[trainers][dropout]") {
  const Dropping with(0.2), without(0.0), half(0.5);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Fixture plain;
  plain.options = without.options;
  plain.stages = without.stages;
  plain.options.dropout = TrainOptions{}.dropout;
  CHECK(train(without, backend) == train(plain, backend));
  CHECK(train(with, backend) != train(without, backend));
  CHECK(train(with, backend) != train(half, backend));
  const Trainer trainer(with.space, with.options, with.stages, *with.data, backend);
  const Trainer::Memory planned = Trainer::plan(with.space, with.options, with.stages, backend);
  CHECK(trainer.memory().total() == planned.total());
  CHECK(planned.arena_keeping_all >= Trainer::plan(without.space, without.options, without.stages, backend).arena_keeping_all);
  CHECK(planned.least_arena >= Trainer::plan(without.space, without.options, without.stages, backend).least_arena);
}

TEST_CASE("masks do not depend on how a step is cut into micro-batches", "[trainers][dropout]") {
  const Dropping whole(0.3), cut(0.3, 4);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer a(whole.space, whole.options, whole.stages, *whole.data, backend), b(cut.space, cut.options, cut.stages, *cut.data, backend);
  const StepReport one = a.step(), four = b.step();
  const double relative = tolerance("accumulation", DType::float32).relative;
  CHECK(four.losses.front().label_loss == Approx(one.losses.front().label_loss).epsilon(relative));
  CHECK(four.gradient_norm == Approx(one.gradient_norm).epsilon(relative));
}

TEST_CASE("evaluation knows nothing of dropout, and a training with it learns", "[trainers][dropout]") {
  const Dropping f(0.1);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  const std::vector<Subnet> largest{f.space.largest()};
  PrefixEvaluator evaluator(trainer.network(), trainer.weights(), *f.data, {Split::search, f.space.model().context, 1}, pool,
                            Precision::f32);
  const double before = evaluator.evaluate(largest).front().loss;
  CHECK(evaluator.evaluate(largest).front().loss == before);
  const StepReport first = trainer.step();
  CHECK(std::isfinite(first.losses.front().label_loss));
  while (!trainer.done()) trainer.step();
  CHECK(evaluator.evaluate(largest).front().loss < before);
}

}  // namespace elastiform
