// Step rules: the reference's numbers, and what a perturbed pass must leave as it was.
#include "trainers/step_rules/step_rule.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/initialization.hpp"
#include "supernet/plan_cache.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/band_space.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// f = ½ θ'Aθ - b'θ over the first three bands of a matrix of four, one element each, in float64.
struct Quadratic {
  std::shared_ptr<const WeightTable> table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  ReferenceBackend backend;
  Weights weights{table, DType::float64}, gradient{table, DType::float64};
  BandScratch bands{*table};
  std::vector<std::vector<double>> A;
  std::vector<double> b;
  std::vector<std::vector<double>> passes;  // θ of each
  std::size_t finite_passes = 9;

  explicit Quadratic(const nlohmann::json& v) : A(v["A"]), b(v["b"]) { set(v["w0"]); }
  double& at(Weights& of, std::size_t i) { return of.view(tensor).row<double>(0)[2 * i]; }
  void set(const std::vector<double>& theta) {
    for (std::size_t i = 0; i < 3; ++i) at(weights, i) = theta[i];
  }
  std::vector<double> read(Weights& of) { return {at(of, 0), at(of, 1), at(of, 2)}; }

  std::vector<double> run(StepRule& rule, const std::vector<int>& mask, std::int64_t step = 0) {
    std::vector<bool> active(static_cast<std::size_t>(table->band_count()), false);
    for (std::size_t i = 0; i < 3; ++i) active[static_cast<std::size_t>(tensor.first_band) + i] = mask[i] != 0;
    const ActiveBands bands_of_step(active);
    const auto pass = [&](const RulePass& asked) -> Weights& {
      CHECK((asked.unperturbed != nullptr) == !passes.empty());
      passes.push_back(read(weights));
      for (std::size_t i = 0; i < 3; ++i) {
        double g = -b[i];
        for (std::size_t j = 0; j < 3; ++j) g += A[i][j] * at(weights, j);
        at(gradient, i) = mask[i] ? g : 0;
        if (passes.size() > finite_passes) at(gradient, i) = std::numeric_limits<double>::infinity();
      }
      return gradient;
    };
    passes.clear();
    Weights& g = rule.gradients({backend, weights, bands_of_step, bands, step, pass});
    return read(g);
  }
};

std::unique_ptr<StepRule> make_rule(const TrainOptions& options, const Quadratic& q) {
  return find_step_rule(options.step_rule).make(options, q.table, q.backend);
}

void check_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) CHECK(actual[i] == Approx(expected[i]).epsilon(1e-11).margin(1e-15));
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d;
  for (std::size_t i = 0; i < a.size(); ++i) d.push_back(a[i] - b[i]);
  return d;
}

const std::vector<int> kAll{1, 1, 1};

}  // namespace

TEST_CASE("vector sam: the perturbation and the gradient there, over all and over the active", "[trainers][vectors]") {
  const auto& v = vector("sam");
  const auto& expected = v["expected"];
  TrainOptions options;
  options.step_rule = "sam", options.rho = v["rho"];
  Quadratic q(v);
  const auto rule = make_rule(options, q);
  check_near(q.run(*rule, kAll), expected["g_sam"]);
  REQUIRE(q.passes.size() == 2);
  check_near(difference(q.passes[1], q.passes[0]), expected["eps"]);
  CHECK(q.read(q.weights) == std::vector<double>(v["w0"]));  // put back, bit by bit
  check_near(q.run(*rule, v["mask"]), expected["g_sam_masked"]);
  check_near(difference(q.passes[1], q.passes[0]), expected["eps_masked"]);

  options.adaptive = true;
  q.run(*make_rule(options, q), kAll);
  check_near(difference(q.passes[1], q.passes[0]), expected["eps_adaptive"]);
  CHECK(q.read(q.weights) == std::vector<double>(v["w0"]));
}

TEST_CASE("vector sam: LookSAM keeps what SAM adds and takes it along", "[trainers][vectors]") {
  const auto& v = vector("sam");
  TrainOptions options;
  options.step_rule = "looksam", options.rho = v["rho"], options.look_share = v["alpha_look"], options.look_every = 4;
  Quadratic q(v);
  const auto rule = make_rule(options, q);
  check_near(q.run(*rule, kAll, 0), v["expected"]["g_sam"]);
  check_near(q.read(*rule->moments().at("look")), v["expected"]["looksam_gv"]);
  q.set(v["expected"]["w_after_sgd"]);
  check_near(q.run(*rule, kAll, 1), v["expected"]["looksam_next_grad"]);
  CHECK(q.passes.size() == 1);
  q.set(v["w0"]);
  // A step of other bands renews theirs alone; a band that no SAM step has trained adds nothing.
  const auto fresh = make_rule(options, q);
  q.run(*fresh, {1, 0, 0}, 0);
  CHECK(q.at(*fresh->moments().at("look"), 1) == 0);
  const std::vector<double> plain = q.run(*fresh, {0, 1, 1}, 1);
  check_near(plain, {0, v["expected"]["g"][1], v["expected"]["g"][2]});
}

TEST_CASE("SAM of ½λ|θ|²: the gradient is λ(1 + ρ/|θ|)θ", "[trainers]") {
  nlohmann::json v = vector("sam");
  v["A"] = {{2.5, 0, 0}, {0, 2.5, 0}, {0, 0, 2.5}}, v["b"] = {0, 0, 0};
  TrainOptions options;
  options.step_rule = "sam", options.rho = 0.3;
  Quadratic q(v);
  const std::vector<double> theta = v["w0"], g = q.run(*make_rule(options, q), kAll);
  const double norm = std::sqrt(1 + 0.25 + 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK(g[i] == Approx(2.5 * (1 + 0.3 / norm) * theta[i]).epsilon(1e-11));
}

TEST_CASE("a first pass that is not finite has no second one", "[trainers]") {
  TrainOptions options;
  options.step_rule = GENERATE("sam", "looksam", "esam");
  Quadratic q(vector("sam"));
  const auto rule = make_rule(options, q);
  q.finite_passes = 0;
  CHECK_FALSE(std::isfinite(q.run(*rule, kAll)[0]));
  CHECK(q.passes.size() == 1);
  CHECK(q.read(q.weights) == q.passes[0]);
}

TEST_CASE("a second pass that is not finite: weights are put back, and LookSAM forgets these bands alone", "[trainers]") {
  TrainOptions options;
  options.step_rule = GENERATE("sam", "looksam"), options.adaptive = GENERATE(false, true);
  options.look_every = 2;
  CAPTURE(options.step_rule, options.adaptive);
  Quadratic q(vector("sam"));
  const auto rule = make_rule(options, q), fresh = make_rule(options, q);
  const std::vector<double> theta = q.read(q.weights), g = q.run(*rule, kAll, 0);
  const auto moments = rule->moments();
  const double look = moments.empty() ? 0 : q.at(*moments.at("look"), 2);
  q.finite_passes = 1;
  CHECK_FALSE(std::isfinite(q.run(*rule, {1, 1, 0}, 2)[0]));
  CHECK(q.passes.size() == 2);
  CHECK(q.read(q.weights) == theta);
  if (!moments.empty()) {
    CHECK(q.read(*moments.at("look")) == std::vector<double>{0, 0, look});
    const std::vector<double>& looked = *rule->band_numbers().at("looked");
    const auto first = static_cast<std::size_t>(q.tensor.first_band);
    CHECK(std::vector<double>(looked.begin() + static_cast<std::ptrdiff_t>(first),
                              looked.begin() + static_cast<std::ptrdiff_t>(first + 4)) == std::vector<double>{-1, -1, 0, -1});
  }
  q.finite_passes = 9;
  check_near(q.run(*rule, kAll, 4), g);  // nothing of it is left
  check_near(q.run(*fresh, kAll, 4), g);
}

TEST_CASE("LookSAM: what is added is α of the gradient of the bands that have a g_v, whose ages are known", "[trainers]") {
  TrainOptions options;
  options.step_rule = "looksam", options.look_share = 0.6, options.look_every = 5;
  Quadratic q(vector("sam"));
  const auto rule = make_rule(options, q), fresh = make_rule(options, q);
  const std::vector<double> plain = q.run(*fresh, kAll, 1);  // it has none
  q.run(*rule, {1, 1, 0}, 0);
  const std::vector<double> added = difference(q.run(*rule, kAll, 1), plain);
  CHECK(std::hypot(added[0], added[1]) == Approx(0.6 * std::hypot(plain[0], plain[1])));
  CHECK(added[2] == 0);
  q.run(*rule, {1, 0, 0}, 5);
  const std::vector<double>& looked = *rule->band_numbers().at("looked");
  const auto first = static_cast<std::size_t>(q.tensor.first_band);
  CHECK(looked[first] == 5);
  CHECK(looked[first + 1] == 0);
  CHECK(looked[first + 2] == -1);
}

namespace {

std::string hash_after(const Fixture& f, Backend& backend, int steps, Communicator& ranks = alone()) {
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
  while (trainer.next_step() < steps) trainer.step();
  CHECK(trainer.skipped_steps() == 0);
  return weights_hash(trainer.weights());
}

}  // namespace

TEST_CASE("with rho = 0 a step rule is bitwise the base optimizer; with another it is not", "[trainers][bits]") {
  Fixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const std::string plain = hash_after(f, backend, 50);
  f.options.step_rule = GENERATE("sam", "looksam", "esam");
  f.options.rho = 0;
  CHECK(hash_after(f, backend, 50) == plain);
  f.options.rho = 0.05;
  CHECK(hash_after(f, backend, 50) != plain);
}

TEST_CASE("step rules: same bits on any number of threads, with micro-batches, and when stopped and resumed", "[trainers][bits]") {
  Fixture f;
  f.options.step_rule = GENERATE("sam", "looksam", "esam");
  f.options.adaptive = GENERATE(false, true);
  f.options.accumulation = 2, f.options.sequences = 5, f.options.look_every = 3, f.options.ema = 0.9, f.options.noise_scale = true;
  CAPTURE(f.options.step_rule, f.options.adaptive);
  const ThreadPool one(1), two(2);
  CpuBackend serial(one), parallel(two);
  Trainer straight(f.space, f.options, f.stages, *f.data, parallel), alone_(f.space, f.options, f.stages, *f.data, serial);
  while (!straight.done()) straight.step(), alone_.step();
  const std::string expected = weights_hash(straight.weights()), average = weights_hash(*straight.average());
  CHECK(weights_hash(alone_.weights()) == expected);
  CHECK(weights_hash(*alone_.average()) == average);
  CHECK(average != expected);
  CHECK(straight.noise().scale() > 0);
  {
    Trainer first(f.space, f.options, f.stages, *f.data, parallel);
    while (first.next_step() < 34) first.step();  // between two of LookSAM's, inside the sandwich
    save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  }
  Trainer second(f.space, f.options, f.stages, *f.data, parallel);
  load_checkpoint(second, f.folder / "supernet.h5");
  while (!second.done()) second.step();
  CHECK(weights_hash(second.weights()) == expected);
  CHECK(weights_hash(*second.average()) == average);
  CHECK(second.noise().signal == straight.noise().signal);
  CHECK(second.noise().trace == straight.noise().trace);
  CHECK(straight.memory().rule == Trainer::plan(f.space, f.options, f.stages, parallel).rule);
  CHECK(straight.memory().average == Trainer::plan(f.space, f.options, f.stages, parallel).average);
}

TEST_CASE("where a step uphill moves no bit, SAM's second pass is the first: batch, masks, tokens and teachers", "[trainers][bits]") {
  Fixture f;
  const SearchSpace::Block& block = f.space.blocks().front();
  f.space = SearchSpace(f.space.model(), f.space.embed(), {2, 3}, {block, block, block});
  f.stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
  f.options.steps = 12, f.options.sequences = 4, f.options.accumulation = 2, f.options.dropout = 0.2;
  f.options.tokens = GENERATE("all", "importance"), f.options.tokens_step = 4;
  if (f.options.tokens != "all") f.options.dropout = 0;  // they refuse each other
  CAPTURE(f.options.tokens);
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const std::string plain = hash_after(f, backend, 12);
  f.options.step_rule = "sam", f.options.rho = 1e-30;
  CHECK(hash_after(f, backend, 12) == plain);
  f.options.rho = 0.05;
  CHECK(hash_after(f, backend, 12) != plain);
}

TEST_CASE("a training skips the step whose second pass is not finite, weights put back", "[trainers]") {
  Fixture f;
  f.options.step_rule = GENERATE("sam", "looksam", "esam");
  f.options.rho = 1e38, f.options.ema = 0.9;
  f.options.accumulation = 2, f.options.noise_scale = true;  // which the first pass, a finite one, estimates
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  const std::string before = weights_hash(trainer.weights());
  CHECK(trainer.step().skipped);
  CHECK(trainer.updates() == 0);
  CHECK(weights_hash(trainer.weights()) == before);
  CHECK(weights_hash(*trainer.average()) == before);
  CHECK(trainer.noise().signal == 0);
  CHECK(trainer.noise().trace == 0);
}

TEST_CASE("the loss that a step reports is that of its first pass", "[trainers]") {
  Fixture f;
  f.stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer plain(f.space, f.options, f.stages, *f.data, backend);
  f.options.step_rule = "sam", f.options.rho = 0.5;
  Trainer sam(f.space, f.options, f.stages, *f.data, backend);
  const StepReport expected = plain.step(), actual = sam.step();  // both begin with the same weights
  REQUIRE(actual.losses.size() == expected.losses.size());
  for (std::size_t i = 0; i < expected.losses.size(); ++i) {
    CHECK(actual.losses[i].label_loss == expected.losses[i].label_loss);
    CHECK(actual.losses[i].teacher_loss == expected.losses[i].teacher_loss);
  }
  CHECK(actual.gradient_norm != expected.gradient_norm);
}

TEST_CASE("the teacher of a perturbed pass is what it was before", "[trainers]") {
  // With teacher weight 1 and one temperature a student's gradient vanishes where it equals its teacher. The smallest and the largest are
  // one subnet here, so at θ their gradients are 0 and at θ+ε they are not: a teacher of θ+ε would leave 0 there, too.
  const SearchSpace space = byte_space();
  const Subnet largest = space.largest();
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32), gradients(weights.shared_table(), DType::float32);
  initialize(weights, 1);
  Weights perturbed(weights.shared_table(), DType::float32);
  initialize(perturbed, 2);
  const Batch batch = random_batch(space, 3, space.model().context, 4);
  Stage stage;
  stage.objective = "labels+largest", stage.teacher_weight = 1;
  const auto objective = make_objective(stage);
  PlanCache plans(network, backend.traits());
  Arena arena(network.unlimited_training_bytes(backend.traits(), largest, {batch.sequences, batch.tokens, true}) + (1 << 20));
  std::vector<float> kept(static_cast<std::size_t>(batch.rows() * padded_ld(batch.rows(), largest.embed)));
  const View teacher = view_of(kept.data(), batch.rows(), largest.embed, padded_ld(batch.rows(), largest.embed));
  const std::vector<Subnet> subnets{largest, largest};
  std::vector<LossReport> losses;
  const auto pass = [&](const Weights& at, const Weights* teaching) {
    objective->forward_backward({.backend = backend,
                                 .network = network,
                                 .largest = largest,
                                 .weights = at,
                                 .gradients = gradients,
                                 .arena = arena,
                                 .plans = plans,
                                 .teacher = teacher,
                                 .teaching = teaching},
                                subnets, batch, losses);
    return losses[1].teacher_loss;
  };
  const double before = pass(weights, nullptr);
  const std::vector<float> states = kept;
  CHECK(before == Approx(0).margin(1e-6));
  CHECK(pass(perturbed, &weights) > 1e-3);
  CHECK(kept == states);
}

TEST_CASE("a step rule or an option that cannot work is refused", "[trainers]") {
  Fixture f;
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  f.options.noise_scale = true;
  CHECK_THROWS_AS(Trainer(f.space, f.options, f.stages, *f.data, backend), InputError);
  f.options.noise_scale = false, f.options.step_rule = "sharp";
  CHECK_THROWS_AS(Trainer(f.space, f.options, f.stages, *f.data, backend), InputError);
}

}  // namespace elastiform
