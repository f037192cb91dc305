// ESAM: which weights step uphill, which sequences the second pass covers, and that this is what it costs.
#include "trainers/step_rules/esam.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/cost_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/sharp_sequences.hpp"
#include "trainers/step_flops.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

TrainOptions esam_options() {
  TrainOptions options;
  options.step_rule = "esam", options.rho = 0.5, options.seed = 3;
  return options;
}

/// A rule's step over all bands of a table, with the same gradient in every pass.
struct OnePerturbation {
  std::shared_ptr<const WeightTable> table = std::make_shared<const WeightTable>(tiny_space("llama"));
  ReferenceBackend backend;
  Weights weights = random_weights(table->space(), DType::float64, 1), gradient = random_weights(table->space(), DType::float64, 2);
  BandScratch bands{*table};
  const ActiveBands all{std::vector<bool>(static_cast<std::size_t>(table->band_count()), true)};
  int sharpest = -1;  // of the second pass

  /// ε of every element, tensor by tensor.
  std::vector<double> run(const TrainOptions& options, std::int64_t step) {
    const Weights theta = copied(weights), g = copied(gradient);
    const auto rule = find_step_rule(options.step_rule).make(options, table, backend);
    std::vector<double> moved;
    const auto pass = [&](const RulePass& asked) -> Weights& {
      if (asked.unperturbed) moved = difference(theta), sharpest = asked.sharpest;
      gradient.assign(g);
      return gradient;
    };
    rule->gradients({backend, weights, all, bands, step, pass});
    CHECK(weights_hash(weights) == weights_hash(theta));  // put back, bit by bit
    return moved;
  }

 private:
  Weights copied(const Weights& from) const {
    Weights to(table, DType::float64);
    to.assign(from);
    return to;
  }
  std::vector<double> difference(const Weights& before) const {
    std::vector<double> d;
    for (const TensorSpec& tensor : table->tensors())
      for (std::int64_t row = 0; row < tensor.rows; ++row)
        for (std::int64_t c = 0; c < tensor.columns; ++c)
          d.push_back(std::as_const(weights).view(tensor).row<double>(row)[c] - before.view(tensor).row<double>(row)[c]);
    return d;
  }
};

}  // namespace

TEST_CASE("ESAM perturbs the share of the weights that it is told, by SAM's step over that share", "[trainers][esam]") {
  OnePerturbation one;
  TrainOptions options = esam_options();
  options.uphill_share = GENERATE(0.25, 0.6);
  options.adaptive = GENERATE(false, true);
  CAPTURE(options.uphill_share, options.adaptive);
  const std::vector<double> some = one.run(options, 7);
  options.step_rule = "sam";
  const std::vector<double> all = one.run(options, 7);
  REQUIRE(some.size() == all.size());
  double count = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (some[i] == 0) continue;
    ++count;
    CHECK_THAT(some[i], WithinAbs(all[i] / options.uphill_share, 1e-9));
  }
  const auto n = static_cast<double>(all.size());
  CHECK(n > 3000);
  CHECK_THAT(count / n, WithinAbs(options.uphill_share, 4 * std::sqrt(options.uphill_share * (1 - options.uphill_share) / n)));
}

TEST_CASE("ESAM draws the weights anew in each step, and the same ones again in the same step", "[trainers][esam]") {
  OnePerturbation one;
  TrainOptions options = esam_options();
  const std::vector<double> at_1 = one.run(options, 1), at_2 = one.run(options, 2);
  CHECK(at_1 == one.run(options, 1));
  double both = 0, n = static_cast<double>(at_1.size());
  for (std::size_t i = 0; i < at_1.size(); ++i) both += at_1[i] != 0 && at_2[i] != 0 ? 1 : 0;
  CHECK_THAT(both / n, WithinAbs(0.25, 4 * std::sqrt(0.25 * 0.75 / n)));  // two independent halves
  options.seed = 4;
  CHECK(at_1 != one.run(options, 1));
}

TEST_CASE("ESAM asks for a second pass over its share of a micro-batch's sequences", "[trainers][esam]") {
  OnePerturbation one;
  TrainOptions options = esam_options();
  const auto asks = [&](int sequences, double share) {
    options.sequences = sequences, options.sharp_share = share;
    one.run(options, 0);
    const RulePasses passes = find_step_rule("esam").passes_of(options);
    CHECK_THAT(passes.whole, WithinRel(1 + (one.sharpest == 0 ? 1 : one.sharpest / static_cast<double>(sequences)), 1e-12));
    CHECK(passes.forward == (one.sharpest == 0 ? 0 : 1));
    return one.sharpest;
  };
  CHECK(asks(16, 0.5) == 8);
  CHECK(asks(5, 0.5) == 3);
  CHECK(asks(16, 0.01) == 1);
  CHECK(asks(16, 1) == 0);
  CHECK(asks(1, 0.5) == 0);  // of one there is no choice
}

TEST_CASE("the sequences whose loss rises most are chosen, ascending; of equal ones the first; what is not finite always",
          "[trainers][esam]") {
  Batch batch{.sequences = 5, .tokens = 2, .inputs = std::vector<std::int32_t>(10), .targets = std::vector<std::int32_t>(10)};
  SharpSequences sharp(5, 2);
  std::vector<float> before{1, 1, 2, 2, 3, 3, 0, 0, 5, 5}, other(10, 100.f), after{2, 1, 2, 3, 3, 6, 0, 1, 5, 4};
  const auto view = [](std::vector<float>& x) { return ConstView(view_of(x.data(), 1, 10, 10)); };
  sharp.before(0, batch, view(other));
  sharp.before(1, batch, view(before));
  const auto chosen = [&](int count) {
    const std::span<const int> found = sharp.choose(1, batch, view(after), count);
    return std::vector<int>(found.begin(), found.end());
  };
  CHECK(chosen(1) == std::vector<int>{2});        // rose by 3
  CHECK(chosen(3) == std::vector<int>{0, 1, 2});  // 0, 1 and 3 by 1
  CHECK(chosen(4) == std::vector<int>{0, 1, 2, 3});
  after[9] = std::numeric_limits<float>::quiet_NaN();
  CHECK(chosen(1) == std::vector<int>{4});
}

TEST_CASE("a batch of some sequences: tokens, targets, kept tokens and images", "[supernet][esam]") {
  Batch batch{.sequences = 3, .tokens = 2, .inputs = {0, 1, 10, 11, 20, 21}, .targets = {1, 2, 11, 12, 21, 22}};
  batch.kept.count = 1;
  batch.kept.rows = {0, 3, 4, 1, 2, 5}, batch.kept.positions = {0, 1, 0, 1, 0, 1};  // of two blocks
  keep_sequences(batch, std::vector<int>{0, 2});
  CHECK(batch.sequences == 2);
  CHECK(batch.inputs == std::vector<std::int32_t>{0, 1, 20, 21});
  CHECK(batch.targets == std::vector<std::int32_t>{1, 2, 21, 22});
  CHECK(batch.kept.rows == std::vector<std::int32_t>{0, 2, 1, 3});
  CHECK(batch.kept.positions == std::vector<std::int32_t>{0, 0, 1, 1});

  const SearchSpace vit = tiny_space("vit");
  Batch images = random_batch(vit, 4, vit.model().context, 5);
  const Batch all = images, fewer = random_batch(vit, 2, vit.model().context, 6);
  keep_sequences(images, std::vector<int>{1, 3});
  CHECK(images.inputs == fewer.inputs);  // which rows of the lookup, whatever these are
  CHECK(images.images.head_rows == fewer.images.head_rows);
  CHECK(images.targets == std::vector<std::int32_t>{all.targets[1], all.targets[3]});
  const std::size_t size = all.images.patches.size() / 4;
  REQUIRE(images.images.patches.size() == 2 * size);
  CHECK(std::equal(images.images.patches.begin() + static_cast<std::ptrdiff_t>(size), images.images.patches.end(),
                   all.images.patches.begin() + static_cast<std::ptrdiff_t>(3 * size)));
}

namespace {

/// A step of ESAM with all weights uphill, done by hand with one subnet: ‖g‖ of its second pass, and FLOPs in passes of the largest.
struct ByHand {
  const SearchSpace& space;
  CpuBackend& backend;
  Network network{space, DType::float32};
  Subnet largest = space.largest();
  Weights weights, gradients;
  ByHand(const SearchSpace& space_, CpuBackend& backend_, const Weights& start)
      : space(space_), backend(backend_), weights(start.shared_table(), DType::float32), gradients(start.shared_table(), DType::float32) {
    weights.assign(start);
  }
  /// Losses of the tokens; gradients receive those of the batch.
  std::vector<float> pass(const Batch& batch) {
    const ActivationPlan plan = network.plan_training(backend.traits(), largest, {.batch = batch.sequences, .tokens = batch.tokens});
    Arena arena(plan.arena_bytes);
    std::vector<float> losses(batch.targets.size());
    const View view = view_of(losses.data(), 1, batch.targets_count(), batch.targets_count());
    for (const TensorSpec& tensor : gradients.table().tensors()) backend.zero(gradients.view(tensor));
    network.forward_backward(backend, weights, gradients, largest, batch, {.token_losses = view}, {}, {}, plan, arena);
    return losses;
  }
  double norm() const {
    double sum = 0;
    for (const TensorSpec& tensor : gradients.table().tensors()) sum += backend.sum_squares(std::as_const(gradients).view(tensor));
    return std::sqrt(sum);
  }
  void uphill(double rho) {
    const double factor = rho / norm();
    for (const TensorSpec& tensor : weights.table().tensors())
      backend.add(weights.view(tensor), std::as_const(gradients).view(tensor), factor);
  }
};

std::vector<double> sums(const std::vector<float>& losses, std::int64_t tokens) {
  std::vector<double> result;
  for (std::size_t i = 0; i < losses.size(); i += static_cast<std::size_t>(tokens))
    result.push_back(std::accumulate(losses.begin() + static_cast<std::ptrdiff_t>(i),
                                     losses.begin() + static_cast<std::ptrdiff_t>(i) + static_cast<std::ptrdiff_t>(tokens), 0.0));
  return result;
}

}  // namespace

TEST_CASE("ESAM's gradient is that of the sequences that its step hurts most: as if the others weighed nothing", "[trainers][esam]") {
  Fixture f;
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest"}};
  f.options.steps = 2, f.options.sequences = 6;
  f.options.step_rule = "esam", f.options.rho = 0.5, f.options.uphill_share = 1, f.options.sharp_share = 0.34;
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  ByHand hand(f.space, backend, trainer.weights());
  Batch batch;
  f.data->training_batch(f.options.seed, 0, f.options.sequences, f.space.model().context, batch, 0);
  const std::int64_t T = batch.tokens;
  const std::vector<double> before = sums(hand.pass(batch), T);
  hand.uphill(f.options.rho);
  std::vector<double> after = sums(hand.pass(batch), T);
  std::vector<int> order(before.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rise = [&](int i) { return after[static_cast<std::size_t>(i)] - before[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return rise(a) > rise(b); });
  CHECK(rise(order[1]) > rise(order[2]) + 1e-6);  // or the choice would be a matter of rounding
  for (std::size_t i = 2; i < order.size(); ++i)
    std::fill_n(batch.targets.begin() + order[i] * T, T, std::int32_t{-100});  // they weigh nothing
  hand.pass(batch);
  const StepReport report = trainer.step();
  CHECK_THAT(report.gradient_norm, WithinRel(hand.norm(), 1e-4));

  const CostModel costs(f.space, {}, f.options.sequences, [](const WeightTable&) { return 0; });
  const std::vector<Subnet> largest{f.space.largest()};
  const double pass = pass_flops(costs, f.options, largest, 0, 0), forward = forward_flops(costs, f.options, largest[0], 0);
  CHECK_THAT(report.flops, WithinRel(pass * (1 + 2.0 / 6) + forward, 1e-12));
  CHECK_THAT(forward, WithinRel(pass / 3, 1e-12));
  CHECK(report.tokens == 6 * T);
}

namespace {

std::string hash_of(const Fixture& f, Backend& backend) {
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  while (!trainer.done()) trainer.step();
  CHECK(trainer.skipped_steps() == 0);
  return weights_hash(trainer.weights());
}

}  // namespace

TEST_CASE("ESAM of all weights and all sequences is SAM, bit for bit; of fewer it is not", "[trainers][esam][bits]") {
  Fixture f;
  f.options.steps = 10, f.options.sequences = 4;
  f.options.accumulation = 2;
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  f.options.step_rule = "sam";
  const std::string sam = hash_of(f, backend);
  f.options.step_rule = "esam", f.options.uphill_share = 1, f.options.sharp_share = 1;
  CHECK(hash_of(f, backend) == sam);
  f.options.uphill_share = 0.9;
  CHECK(hash_of(f, backend) != sam);
  f.options.uphill_share = 1, f.options.sharp_share = 0.75;
  CHECK(hash_of(f, backend) != sam);
}

TEST_CASE("ESAM composes with token selection, a teacher, smoothed labels and planned memory", "[trainers][esam][bits]") {
  Fixture f;
  const SearchSpace::Block& block = f.space.blocks().front();
  f.space = SearchSpace(f.space.model(), f.space.embed(), {2, 3}, {block, block, block});
  f.stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
  f.options.steps = 6, f.options.sequences = 4, f.options.accumulation = 2, f.options.label_smoothing = 0.1;
  f.options.tokens = GENERATE("all", "importance", "random_ltd"), f.options.tokens_step = 4;
  f.options.step_rule = "esam";
  CAPTURE(f.options.tokens);
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool one(1), two(2);
  CpuBackend serial(one), parallel(two);
  const std::string hash = hash_of(f, parallel);
  CHECK(hash == hash_of(f, serial));
  const Trainer::Memory plan = Trainer::plan(f.space, f.options, f.stages, parallel);
  Trainer trainer(f.space, f.options, f.stages, *f.data, parallel, plan.least_arena);
  CHECK(trainer.memory().rule == plan.rule);
  TrainOptions sam = f.options;
  sam.step_rule = "sam";  // ESAM keeps losses besides: of a micro-batch's tokens, of two micro-batches' sequences, and their order
  CHECK(plan.rule - Trainer::plan(f.space, sam, f.stages, parallel).rule == 4 * (f.space.model().context * 4 + 3 * 8 + 4));
  while (!trainer.done()) trainer.step();
  CHECK(weights_hash(trainer.weights()) == hash);
}

TEST_CASE("ESAM with a choice of sequences refuses dropout", "[trainers][esam]") {
  Fixture f;
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  f.options.step_rule = "esam", f.options.dropout = 0.1;
  CHECK_THROWS_WITH(Trainer(f.space, f.options, f.stages, *f.data, backend), Contains("train.dropout = 0"));
  f.options.sharp_share = 1;
  CHECK_NOTHROW(Trainer(f.space, f.options, f.stages, *f.data, backend));
}

}  // namespace elastiform
