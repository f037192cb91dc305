#include "trainers/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/bands.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

std::string trained_hash(const Fixture& f, int threads, std::int64_t steps) {
  const ThreadPool pool(threads);
  CpuBackend backend(pool, parse_precision(f.options.precision, "test"));
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  while (trainer.next_step() < steps) trainer.step();
  // That all five ever meet in one loop depends on the machine's load; that a second one helps in 50 steps does not.
  CHECK(pool.distinct_threads() >= std::min(threads, 2));
  return weights_hash(trainer.weights());
}

}  // namespace

TEST_CASE("50 steps on 1, 2 and 5 threads give the same weights", "[trainers][bits]") {
  Fixture f;
  f.options.precision = name_of(GENERATE(from_range(precisions_here())));
  CAPTURE(f.options.precision);
  const std::string one = trained_hash(f, 1, 50);
  CHECK(trained_hash(f, 2, 50) == one);
  CHECK(trained_hash(f, 5, 50) == one);
}

TEST_CASE("training learns: the loss falls far below the uniform distribution's", "[trainers]") {
  const Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool, GENERATE(from_range(precisions_here())));
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  const double first = trainer.step().losses.front().label_loss;
  StepReport last;
  while (!trainer.done()) last = trainer.step();
  CHECK(first == Approx(std::log(256) + 0.5).epsilon(0.05));  // logits of variance 1 at first
  CHECK(last.losses.front().label_loss < 3.0);
  CHECK(trainer.updates() == 50);
}

TEST_CASE("on trained weights the gradient in bf16 points where the one in float32 points", "[trainers][precision]") {
  if (precisions_here().back() != Precision::bf16) return;
  const Fixture f;
  const ThreadPool pool(2);
  CpuBackend exact(pool), rounded(pool, Precision::bf16);
  Trainer trainer(f.space, f.options, f.stages, *f.data, exact);
  while (trainer.next_step() < 30) trainer.step();  // before it, at the start, gradients of all precisions look alike
  const Network& network = trainer.network();
  for (const Subnet& subnet : {f.space.smallest(), f.space.middle(), f.space.largest()}) {
    const Batch batch = f.data->training_batch(1, 99, f.options.sequences, f.space.model().context);
    const auto gradient = [&](CpuBackend& backend) {
      Weights result(trainer.weights().shared_table(), DType::float32);
      const ActivationPlan plan = network.plan_training(backend.traits(), subnet, {f.options.sequences, f.space.model().context});
      Arena arena(plan.arena_bytes);
      network.forward_backward(backend, trainer.weights(), result, subnet, batch, {}, {}, {}, plan, arena);
      return result;
    };
    const Weights a = gradient(exact), b = gradient(rounded);
    double ab = 0, aa = 0, bb = 0;
    for (const TensorSpec& tensor : a.table().tensors())
      for (std::int64_t row = 0; row < a.view(tensor).rows; ++row)
        for (std::int64_t c = 0; c < a.view(tensor).columns; ++c) {
          const double x = a.view(tensor).row<float>(row)[c], y = b.view(tensor).row<float>(row)[c];
          ab += x * y, aa += x * x, bb += y * y;
        }
    const double cosine = ab / std::sqrt(aa * bb);
    CAPTURE(format(subnet), cosine);
    CHECK(cosine >= 0.999);
    CHECK(cosine < 1 - 1e-9);  // it was computed in bf16
  }
}

TEST_CASE("a run that is stopped and resumed has the bits of one that is not", "[trainers][bits]") {
  Fixture f;
  const Precision precision = GENERATE(from_range(precisions_here()));
  f.options.precision = name_of(precision);
  CAPTURE(f.options.precision);
  const std::int64_t stop = GENERATE(7, 25, 44);  // inside each stage
  const ThreadPool pool(2);
  CpuBackend backend(pool, precision);
  Trainer straight(f.space, f.options, f.stages, *f.data, backend);
  while (!straight.done()) straight.step();
  {
    Trainer first(f.space, f.options, f.stages, *f.data, backend);
    while (first.next_step() < stop) first.step();
    save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  }
  Trainer second(f.space, f.options, f.stages, *f.data, backend);
  CHECK(load_checkpoint(second, f.folder / "supernet.h5").precision == f.options.precision);
  CHECK(second.next_step() == stop);
  while (!second.done()) second.step();
  CHECK(weights_hash(second.weights()) == weights_hash(straight.weights()));
  for (const auto& [name, moment] : second.state().optimizer->moments())
    CHECK(weights_hash(*moment) == weights_hash(*straight.state().optimizer->moments().at(name)));
  for (const auto& [name, numbers] : second.state().optimizer->band_numbers())
    CHECK(*numbers == *straight.state().optimizer->band_numbers().at(name));
}

TEST_CASE("a checkpoint of another length or another space leaves the trainer as it was", "[trainers]") {
  Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trained(f.space, f.options, f.stages, *f.data, backend);
  while (trained.next_step() < 30) trained.step();
  save_checkpoint(trained, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  f.options.steps = 20;  // step 30 lies beyond
  resolve_stages(f.stages, f.options.steps);
  Trainer fresh(f.space, f.options, f.stages, *f.data, backend);
  const std::string before = weights_hash(fresh.weights());
  CHECK_THROWS_AS(load_checkpoint(fresh, f.folder / "supernet.h5"), InputError);
  CHECK(weights_hash(fresh.weights()) == before);
  CHECK(fresh.next_step() == 0);
  Trainer other(SearchSpace(f.space.model(), {8, 16}, f.space.depth(), f.space.blocks()), f.options, f.stages, *f.data, backend);
  CHECK_THROWS_AS(load_checkpoint(other, f.folder / "supernet.h5"), InputError);
}

TEST_CASE("bands that no subnet of a step touches stay bitwise unchanged under the lazy policies", "[trainers][slicing]") {
  Fixture f;
  f.options.policy = GENERATE("lazy-local", "lazy-global", "catch-up");
  f.stages = {{.share = 1, .steps = 0, .sampler = "balanced"}};
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  bool some_idle = false;
  for (int t = 0; t < 12; ++t) {
    const Weights before = extract(trainer.weights(), f.space.largest());
    const Weights m_before = extract(*trainer.state().optimizer->moments().at("m"), f.space.largest());
    const StepReport report = trainer.step();
    const ActiveBands active(trainer.weights().table(), report.subnets);
    std::vector<BandRectangle> idle, touched;
    band_rectangles(
        trainer.weights().table(), [&](std::int64_t band) { return active[band] ? -1 : 0; }, idle);
    band_rectangles(
        trainer.weights().table(), [&](std::int64_t band) { return active[band] ? 0 : -1; }, touched);
    for (const BandRectangle& r : idle) {
      some_idle = true;
      REQUIRE(same_bits(r.of(trainer.weights()), r.of(before)));
      REQUIRE(same_bits(r.of(std::as_const(*trainer.state().optimizer->moments().at("m"))), r.of(m_before)));
    }
    int moved = 0;
    for (const BandRectangle& r : touched) moved += same_bits(r.of(trainer.weights()), r.of(before)) ? 0 : 1;
    CHECK(moved > 0);
  }
  CHECK(some_idle);
}

TEST_CASE("gradients are cleared where the first subnet of a step does not write all that the others touch", "[trainers]") {
  const SearchSpace space = byte_space();
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const auto table = std::make_shared<const WeightTable>(space);
  BandScratch scratch(*table);
  const auto begins = [&](const std::vector<Subnet>& subnets, Weights& gradients) {
    return begin_gradients(backend, network, gradients, subnets, *make_objective({}), ActiveBands(*table, subnets), scratch);
  };
  const auto first_of = [&](Weights& gradients, const char* name) -> float& { return gradients.view(name).row<float>(0)[0]; };
  const std::vector<std::pair<std::vector<Subnet>, bool>> cases = {
      {{space.largest(), space.smallest()}, false}, {{space.smallest()}, false}, {{space.smallest(), space.largest()}, true}};
  for (const auto& [subnets, accumulates] : cases) {
    Weights gradients(table, DType::float32);
    first_of(gradients, "embedding.token") = first_of(gradients, "block.0.ffn.up") = first_of(gradients, "block.0.attention.norm.gain") = 7;
    CAPTURE(format(subnets.front()), subnets.size());
    CHECK(begins(subnets, gradients) == accumulates);
    CHECK(first_of(gradients, "embedding.token") == (space.model().tied && !accumulates ? 7 : 0));
    CHECK(first_of(gradients, "block.0.ffn.up") == (accumulates ? 0 : 7));
    CHECK(first_of(gradients, "block.0.attention.norm.gain") == (accumulates ? 0 : 7));
  }
}

TEST_CASE("a step that is not finite changes nothing and is counted", "[trainers]") {
  Fixture f;
  f.options.optimizer = GENERATE("adamw", "lamb", "adafactor", "adamw8bit");
  f.options.step_rule = GENERATE("plain", "looksam");
  CAPTURE(f.options.optimizer, f.options.step_rule);
  f.options.ema = 0.9, f.options.accumulation = 2, f.options.sequences = 4, f.options.noise_scale = true, f.options.look_every = 2;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  for (int t = 0; t < 3; ++t) trainer.step();
  Trainer::State& state = trainer.state();
  float& poisoned = state.weights.view("final.norm.gain").row<float>(0)[0];
  const float kept = poisoned;
  poisoned = std::numeric_limits<float>::infinity();
  const auto everything = [&] {
    std::map<std::string, std::vector<std::byte>> all;
    const auto add = [&](const std::string& name, const void* data, std::size_t bytes) {
      const auto* first = static_cast<const std::byte*>(data);
      all[name].assign(first, first + bytes);
    };
    const auto add_weights = [&](const std::string& name, const Weights& w) { add(name, w.data(), static_cast<std::size_t>(w.bytes())); };
    add_weights("weights", state.weights), add_weights("average", state.average->weights());
    for (const auto& [name, moment] : state.optimizer->moments()) add_weights(name, *moment);
    for (const auto& [name, moment] : state.rule->moments()) add_weights(name, *moment);
    for (const auto& [name, array] : state.optimizer->arrays())
      add("array " + name, array->data(), static_cast<std::size_t>(array->bytes()));
    for (const auto& numbers : {state.optimizer->band_numbers(), state.rule->band_numbers()})
      for (const auto& [name, held] : numbers) add("band " + name, held->data(), held->size() * sizeof(double));
    add("counts", state.average->counts().data(), state.average->counts().size() * sizeof(double));
    add("noise", &state.noise, sizeof(state.noise));
    return all;
  };
  const auto before = everything();
  CHECK(before.count("look") == (f.options.step_rule == "looksam" ? 1 : 0));
  const StepReport report = trainer.step();
  CHECK(report.skipped);
  CHECK(trainer.skipped_steps() == 1);
  CHECK(trainer.updates() == 3);
  CHECK(trainer.next_step() == 4);
  CHECK((everything() == before));
  poisoned = kept;
  CHECK_FALSE(trainer.step().skipped);
  CHECK((everything() != before));
}

TEST_CASE("planned memory is what a trainer holds", "[trainers]") {
  const Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  const Trainer::Memory planned = Trainer::plan(f.space, f.options, f.stages, backend), held = trainer.memory();
  CHECK(planned.weights == held.weights);
  CHECK(planned.gradients == held.gradients);
  CHECK(planned.optimizer == held.optimizer);
  CHECK(planned.arena == held.arena);
}

TEST_CASE("a trainer with the least memory that works has the weights of one that keeps everything", "[trainers][bits][memory]") {
  const Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Trainer::Memory most = Trainer::plan(f.space, f.options, f.stages, backend);
  // Less than everything: an idle byte of what costs next to nothing is not kept.
  CHECK(most.arena < most.arena_keeping_all);
  CHECK(most.recomputed_share == 0);
  REQUIRE(most.least_arena < most.arena);
  CHECK_THROWS_AS(Trainer(f.space, f.options, f.stages, *f.data, backend, most.least_arena - 1), InputError);
  Trainer free(f.space, f.options, f.stages, *f.data, backend, most.arena_keeping_all);
  CHECK(free.memory().arena == most.arena_keeping_all);
  Trainer limited(f.space, f.options, f.stages, *f.data, backend, most.least_arena + 1);  // not a multiple of the arena's 64 bytes
  CHECK(limited.memory().arena == most.least_arena);
  CHECK(limited.memory().recomputed_share > 0);
  while (!free.done()) free.step();  // all stages: largest, balanced, sandwich with a teacher
  while (!limited.done()) limited.step();
  CHECK(weights_hash(limited.weights()) == weights_hash(free.weights()));
}

TEST_CASE("endpoints take exactly their shares of the steps", "[trainers]") {
  const SearchSpace space = byte_space();
  const auto sampler =
      make_sampler(space, {.share = 1, .steps = 0, .sampler = "balanced", .objective = "labels", .largest = 0.25, .smallest = 0.125}, 3);
  int largest = 0, smallest = 0;
  for (std::uint64_t t = 0; t < 800; ++t) {
    const Subnet subnet = sampler->sample(t, t).front();
    largest += subnet == space.largest() ? 1 : 0;
    smallest += subnet == space.smallest() ? 1 : 0;
  }
  // Balanced draws hit an endpoint by chance now and then.
  CHECK(largest >= 200);
  CHECK(largest <= 205);
  CHECK(smallest >= 100);
  CHECK(smallest <= 120);
}

TEST_CASE("stages that cannot work are refused", "[trainers]") {
  const Fixture f;
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  std::vector<Stage> stages{{.share = 1, .steps = 50, .sampler = "balanced", .objective = "labels+largest"}};
  CHECK_THROWS_AS(Trainer(f.space, f.options, stages, *f.data, backend), InputError);
  stages = {{.share = 0.5}, {.share = 0.6}};
  CHECK_THROWS_AS(resolve_stages(stages, 10), InputError);
  stages = {{.share = 1.0 / 3}, {.share = 1.0 / 3}, {.share = 1.0 / 3}};
  resolve_stages(stages, 100);
  CHECK(stages[0].steps + stages[1].steps + stages[2].steps == 100);
}

}  // namespace elastiform
