// Training under every residual rule: gates, resume, decay.
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/initialization.hpp"
#include "supernet/residual_rules/rules.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/residual.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// Loss after 100 steps of 24 blocks at a constant rate from the first step on. plain: norms after the branches, Xavier, nothing else.
double loss_of_deep_training(Fixture& f, ResidualRule rule, bool plain) {
  f.options.steps = 100, f.options.sequences = 8, f.options.rate = 1.5e-3, f.options.clip = 0;
  f.options.schedule = "constant", f.options.warmup = 0, f.options.band_warmup = 0;
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest"}};
  resolve_stages(f.stages, f.options.steps);
  const SearchSpace base = equal_blocks(rule, 24, 32, 4, 64, FeedForwardKind::gelu_tanh);
  ModelConfig model = base.model();
  model.vocabulary = 256;
  if (plain) model.skip_scale = 1;
  const SearchSpace space(model, base.embed(), base.depth(), base.blocks());
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(space, f.options, f.stages, *f.data, backend);
  Weights& weights = trainer.state().weights;
  if (plain)
    for (const TensorSpec& tensor : weights.table().tensors())
      if (carries_signal(tensor)) backend.scale(weights.view(tensor), std::pow(8.0 * 24, 0.25));  // deepnorm made them smaller
  double last = 0;
  while (!trainer.done()) last = trainer.step().losses.front().label_loss;
  return last;
}

}  // namespace

TEST_CASE("24 blocks learn without warm-up at a rate at which plain norms after the branches do not", "[trainers][residual]") {
  Fixture f;
  // The frequencies of bytes alone give 2.7.
  CHECK(loss_of_deep_training(f, ResidualRule::deepnorm, true) > 2.5);
  for (const ResidualRule rule : every_residual_rule()) {
    CAPTURE(residual_rule(rule).name);
    // These two learn later: layerscale's gates start at 1e-5, fixup's branches and head at 0, and its gates move at a tenth of the rate.
    const bool later = rule == ResidualRule::layerscale || rule == ResidualRule::fixup;
    CHECK(loss_of_deep_training(f, rule, false) < (later ? 2.4 : 2.1));
  }
}

TEST_CASE("every residual rule learns, and a resumed run has the bits of an uninterrupted one", "[trainers][bits][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  CAPTURE(residual_rule(rule).name);
  Fixture f;
  f.space = with_residual(f.space, rule);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer straight(f.space, f.options, f.stages, *f.data, backend);
  const double first = straight.step().losses.front().label_loss;
  StepReport last;
  while (!straight.done()) last = straight.step();
  CHECK(straight.skipped_steps() == 0);
  CHECK(last.losses.front().label_loss < first - 1);

  const ThreadPool five(5);
  CpuBackend other(five);
  {
    Trainer begun(f.space, f.options, f.stages, *f.data, other, Trainer::plan(f.space, f.options, f.stages, other).least_arena);
    while (begun.next_step() < 25) begun.step();
    save_checkpoint(begun, "", "", f.folder / "supernet.h5");
  }
  Trainer resumed(f.space, f.options, f.stages, *f.data, backend);
  load_checkpoint(resumed, f.folder / "supernet.h5");
  while (!resumed.done()) resumed.step();
  CHECK(weights_hash(resumed.weights()) == weights_hash(straight.weights()));
}

TEST_CASE("under every residual rule the weights' average begins at the weights", "[trainers][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  CAPTURE(residual_rule(rule).name);
  Fixture f;
  f.space = with_residual(f.space, rule);
  f.options.ema = 0.99;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Trainer fresh(f.space, f.options, f.stages, *f.data, backend);
  REQUIRE(fresh.average());
  CHECK(weights_hash(*fresh.average()) == weights_hash(fresh.weights()));
}

TEST_CASE("admin measures its skip gains once, on the run's first batch, whatever the threads", "[trainers][residual]") {
  Fixture f;
  f.space = with_residual(f.space, ResidualRule::admin);
  const ThreadPool one(1), five(5);
  CpuBackend a(one), b(five);
  const Trainer first(f.space, f.options, f.stages, *f.data, a), second(f.space, f.options, f.stages, *f.data, b);
  CHECK(weights_hash(first.weights()) == weights_hash(second.weights()));
  double before = 0;
  for (int block = 0; block < f.space.max_depth(); ++block)
    for (const char* branch : {".attention", ".ffn"}) {
      const float gain = first.weights().view("block." + std::to_string(block) + branch + ".residual.skip").row<float>(0)[0];
      CHECK(static_cast<double>(gain) > before);  // sums of variances grow
      before = static_cast<double>(gain);
    }
}

TEST_CASE("under every optimizer gates and shifts move by the rate and do not decay; fixup's by a tenth", "[trainers][residual]") {
  const Fixture f;
  const OptimizerEntry& entry = GENERATE(from_range(optimizers().begin(), optimizers().end()));
  const SearchSpace space = with_residual(f.space, GENERATE(ResidualRule::fixup, ResidualRule::layerscale, ResidualRule::admin));
  CAPTURE(entry.name, residual_rule(space.model().residual).name);
  const auto table = std::make_shared<const WeightTable>(space);
  ReferenceBackend backend;
  TrainOptions options;
  options.decay = 0.5, options.band_warmup = 0, options.eps = 0;
  const Subnet largest = space.largest();
  const ActiveBands active(*table, std::span(&largest, 1));
  for (const double gradient : {0.0, 1.0}) {
    Weights weights(table, DType::float64), gradients(table, DType::float64);
    initialize(weights, 1);
    for (const TensorSpec& tensor : table->tensors()) {
      const View g = gradients.view(tensor);
      for (std::int64_t row = 0; row < g.rows; ++row) std::fill(g.row<double>(row), g.row<double>(row) + g.columns, gradient);
    }
    Weights before(table, DType::float64);
    before.assign(weights);
    // eps = 0 leaves 0/0 where there is no gradient; a tiny one does not.
    options.eps = gradient == 0 ? 1e-30 : 0;
    const auto optimizer = entry.make(options, table, backend);
    optimizer->update(backend, weights, gradients, active, {.step = 0, .rate = 0.01});
    const bool slow = space.model().residual == ResidualRule::fixup;
    for (const TensorSpec& tensor : table->tensors()) {
      if (tensor.role != Role::gate && tensor.role != Role::shift) continue;
      CAPTURE(tensor.name, gradient);
      const double start = before.view(tensor).row<double>(0)[0], moved = start - weights.view(tensor).row<double>(0)[0];
      const double unit = entry.name == "adafactor" ? std::max(1e-3, start) : 1;  // its rate is relative; a gate's elements are alike
      if (gradient == 0) CHECK(moved == 0);
      else CHECK(moved == Approx((slow ? 0.001 : 0.01) * unit));
    }
  }
}

}  // namespace elastiform
