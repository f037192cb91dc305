#include "trainers/precision/precision_rule.hpp"

#include <bit>
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "kernels/scratch_file.hpp"
#include "supernet/weights_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/precision/delayed_scaling.hpp"
#include "trainers/precision/loss_scaler.hpp"
#include "trainers/precision/rounded_weights.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

bool can_compute(const std::string& precision) {
  return find_precision(precision).compute == Precision::f32 || precisions_here().back() == Precision::bf16;
}

struct Run {
  ThreadPool pool;
  CpuBackend backend;
  Trainer trainer;
  Run(const Fixture& f, int threads, std::optional<std::int64_t> limit = std::nullopt)
      : pool(threads), backend(pool, find_precision(f.options.precision).compute),
        trainer(f.space, f.options, f.stages, *f.data, backend, limit) {}
  std::string finish() {
    while (!trainer.done()) trainer.step();
    return weights_hash(trainer.weights());
  }
};

double at_bits(float x) { return static_cast<double>(std::bit_cast<std::uint32_t>(x) & 0xffffU); }

}  // namespace

TEST_CASE("loss scales move as the vector loss_scaler says, and end at 1", "[trainers][precision][vectors]") {
  LossScaler scaler(65536, 4);
  for (const auto& one : vector("loss_scaler")["expected"]) {
    CHECK(scaler.scale() == one["scale_used"].get<double>());
    const bool overflowed = one["found_inf"].get<int>() != 0;
    CHECK(overflowed == !one["step_taken"].get<bool>());
    CHECK(scaler.update(overflowed));
    CHECK(scaler.scale() == one["scale_after"].get<double>());
    CHECK(scaler.clean_steps() == one["tracker"].get<std::int64_t>());
  }
  LossScaler least(2);
  CHECK(least.update(true));
  CHECK(least.scale() == 1);
  CHECK_FALSE(least.update(true));
  CHECK(least.scale() == 1);
}

TEST_CASE("delayed scales are those of the vector fp8_delayed_scaling", "[trainers][precision][vectors]") {
  DelayedScaling scaling(2, 4);
  for (const auto& one : vector("fp8_delayed_scaling")["expected"]) {
    CHECK(scaling.scale(1) == Approx(one["scale_used"].get<double>()));
    const double largest = one["amax"].is_number() ? one["amax"].get<double>() : std::numeric_limits<double>::infinity();
    CHECK((largest * scaling.scale(1) > 448) == one["would_saturate"].get<bool>());
    scaling.record(1, largest, NumberFormat::e4m3);
    CHECK(scaling.scale(1) == Approx(one["scale_next"].get<double>()));
  }
  CHECK(scaling.scale(0) == 1);
}

TEST_CASE("in every precision a run learns, and has the same bits on 1 and 3 threads and when resumed", "[trainers][precision][bits]") {
  Fixture f;
  f.options.precision = GENERATE("fp16", "bf16-pure", "fp8");
  f.options.accumulation = GENERATE(1, 2);
  if (!can_compute(f.options.precision)) return;
  CAPTURE(f.options.precision, f.options.accumulation);
  Run one(f, 1);
  StepReport last;
  while (!one.trainer.done()) last = one.trainer.step();
  CHECK(last.losses.front().label_loss < 3.0);
  CHECK(one.trainer.skipped_steps() < 5);
  const std::string expected = weights_hash(one.trainer.weights());
  CHECK(Run(f, 3).finish() == expected);
  Run first(f, 2);
  while (first.trainer.next_step() < 25) first.trainer.step();
  save_checkpoint(first.trainer, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  Run second(f, 2);
  load_checkpoint(second.trainer, f.folder / "supernet.h5");
  CHECK(second.finish() == expected);
  for (const auto& [name, numbers] : second.trainer.state().precision->numbers())
    CHECK(*numbers == *one.trainer.state().precision->numbers().at(name));
  f.options.precision = find_precision(f.options.precision).compute == Precision::bf16 ? "bf16" : "f32";
  CHECK(Run(f, 2).finish() != expected);
}

TEST_CASE("what backward computes again counts once: the bits of emulated precisions do not depend on memory",
          "[trainers][precision][bits]") {
  Fixture f;
  f.options.precision = GENERATE("fp16", "fp8");
  f.options.steps = 20;
  resolve_stages(f.stages, f.options.steps);
  Run all(f, 2, kNoLimit);
  const std::string expected = all.finish();
  CHECK(Run(f, 2, all.trainer.memory().least_arena).finish() == expected);
}

TEST_CASE("fp16: a step that overflows changes nothing, lowers the scale, and is counted by its width", "[trainers][precision]") {
  Fixture f;
  f.options.precision = "fp16";
  f.options.loss_scale = 0x1p36;
  Run run(f, 2);
  const std::string before = weights_hash(run.trainer.weights());
  const StepReport report = run.trainer.step();
  CHECK(report.skipped);
  CHECK_FALSE(report.losses.front().finite);
  CHECK(std::isfinite(report.losses.front().label_loss));
  CHECK(weights_hash(run.trainer.weights()) == before);
  CHECK(run.trainer.state().precision->loss_scale() == 0x1p35);
  while (run.trainer.next_step() < 30) run.trainer.step();
  const auto numbers = run.trainer.state().precision->numbers();
  double overflows = 0, passes = 0;
  for (const double count : *numbers.at("overflows")) overflows += count;
  for (const double count : *numbers.at("passes")) passes += count;
  CHECK(overflows == static_cast<double>(run.trainer.skipped_steps()));  // one subnet a step until step 30
  CHECK(passes == 30);
  CHECK(overflows > 3);
  CHECK(run.trainer.updates() > 5);
  CHECK(run.trainer.precision_summary().find("overflowed") != std::string::npos);
}

TEST_CASE("fp16: in a sandwich only the subnet that overflows is counted, and its step changes nothing", "[trainers][precision]") {
  Fixture f;
  f.options.precision = "fp16";
  f.options.loss_scale = 8;
  f.stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels"}};
  resolve_stages(f.stages, f.options.steps);
  Run run(f, 2);
  const WeightTable& table = run.trainer.weights().table();
  const int narrowest = f.space.embed().front();
  for (const TensorSpec& tensor : table.tensors())
    if (tensor.name == "block.0.ffn.up") {
      const View up = run.trainer.state().weights.view(tensor);
      REQUIRE(up.rows > narrowest);
      up.row<float>(up.rows - 1)[0] = 1e30F;  // binary16 has no such number, and only the widest subnet reads this row
    }
  const std::string before = weights_hash(run.trainer.weights());
  const StepReport report = run.trainer.step();
  REQUIRE(report.subnets.size() > 2);
  CHECK(report.skipped);
  CHECK(weights_hash(run.trainer.weights()) == before);
  for (std::size_t i = 0; i < report.subnets.size(); ++i)
    CHECK(report.losses[i].finite == (report.subnets[i].embed != f.space.max_embed()));
  const auto numbers = run.trainer.state().precision->numbers();
  CHECK(numbers.at("overflows")->front() == 0);
  CHECK(numbers.at("overflows")->back() > 0);
  CHECK(numbers.at("loss_scale")->front() == 4);
}

TEST_CASE("fp16: an overflow of SAM's second pass is counted like one of the first", "[trainers][precision][sam]") {
  Fixture f;
  f.options.precision = "fp16";
  f.options.loss_scale = 8;
  f.options.step_rule = "sam";
  f.options.rho = GENERATE(0.01, 1e6);  // with the second the step uphill leaves the range of binary16
  Run run(f, 2);
  const StepReport report = run.trainer.step();
  const bool overflows = f.options.rho > 1;
  double counted = 0;
  for (const double count : *run.trainer.state().precision->numbers().at("overflows")) counted += count;
  CHECK(std::isfinite(report.losses.front().label_loss));
  CHECK(report.skipped == overflows);
  CHECK(counted == (overflows ? 1 : 0));
}

TEST_CASE("fp16: when no loss scale helps, the run ends with one line", "[trainers][precision]") {
  Fixture f;
  f.options.precision = "fp16";
  f.options.loss_scale = 2;
  Run run(f, 1);
  for (const TensorSpec& tensor : run.trainer.weights().table().tensors())
    if (tensor.name == "block.0.ffn.up") run.trainer.state().weights.view(tensor).row<float>(0)[0] = NAN;
  run.trainer.step();
  CHECK_THROWS_AS(run.trainer.step(), InputError);
}

TEST_CASE("bf16-pure: weights hold bf16 values, and bands that no subnet touched stay as they were", "[trainers][precision][slicing]") {
  if (!can_compute("bf16-pure")) return;
  Fixture f;
  f.options.precision = "bf16-pure";
  f.stages = {{.share = 1, .steps = 0, .sampler = "balanced", .objective = "labels", .largest = 0, .smallest = 1}};
  resolve_stages(f.stages, f.options.steps);
  Run run(f, 2);
  const Weights before = [&] {
    Weights copy(run.trainer.weights().shared_table(), DType::float32);
    copy.assign(run.trainer.weights());
    return copy;
  }();
  for (int i = 0; i < 5; ++i) run.trainer.step();
  const Weights& after = run.trainer.weights();
  double cut = 0;
  std::int64_t outside = 0, moved_outside = 0, moved_inside = 0;
  for (const TensorSpec& tensor : after.table().tensors()) {
    const Extent extent = after.table().extent(tensor, f.space.smallest());
    for (std::int64_t row = 0; row < tensor.rows; ++row)
      for (std::int64_t c = 0; c < tensor.columns; ++c) {
        const float now = after.view(tensor).row<float>(row)[c], then = before.view(tensor).row<float>(row)[c];
        cut += at_bits(now);
        const bool inside = row < extent.rows && c < extent.columns;
        outside += inside ? 0 : 1;
        moved_outside += !inside && std::bit_cast<std::uint32_t>(now) != std::bit_cast<std::uint32_t>(then) ? 1 : 0;
        moved_inside += inside && now != then ? 1 : 0;
      }
  }
  CHECK(cut == 0);
  CHECK(outside > 1000);
  CHECK(moved_outside == 0);
  CHECK(moved_inside > 500);
}

TEST_CASE("fp8: a slice has the codes of the whole tensor, and the largest subnet sets the scales of all", "[trainers][precision]") {
  Fixture f;
  f.options.precision = "fp8";
  f.options.fp8_window = 8;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Weights weights = random_weights(f.space, DType::float32, 3);
  const WeightTable& table = weights.table();
  const std::vector<double> scales(table.tensors().size(), 100);
  RoundedWeights of_all(weights.shared_table(), backend), of_smallest(weights.shared_table(), backend);
  const std::vector<Subnet> all{f.space.largest()}, few{f.space.smallest()};
  const Weights& whole = of_all.update(backend, weights, ActiveBands(table, all), NumberFormat::e4m3, scales);
  const Weights& slice = of_smallest.update(backend, weights, ActiveBands(table, few), NumberFormat::e4m3, scales);
  bool equal = true;
  for (const TensorSpec& tensor : table.tensors()) {
    const Extent extent = table.extent(tensor, f.space.smallest());
    for (std::int64_t row = 0; row < extent.rows; ++row)
      for (std::int64_t c = 0; c < extent.columns; ++c)
        equal = equal && whole.view(tensor).row<float>(row)[c] == slice.view(tensor).row<float>(row)[c];
  }
  CHECK(equal);

  // After the window has passed only the latest uses count, before it the largest of all.
  DelayedScaling scaling(1, 3);
  for (const double largest : {16.0, 2.0, 2.0}) scaling.record(0, largest, NumberFormat::e4m3);
  CHECK(scaling.scale(0) == 448.0 / 16);
  scaling.record(0, 2, NumberFormat::e4m3);
  CHECK(scaling.scale(0) == 448.0 / 2);
}

TEST_CASE("precisions that cannot be had are refused", "[trainers][precision]") {
  Fixture f;
  ReferenceBackend reference;
  const auto table = std::make_shared<const WeightTable>(f.space);
  f.options.precision = GENERATE("fp16", "fp8");
  CHECK_THROWS_AS(make_precision(f.options, table, reference, 1), InputError);
  const ThreadPool pool(1);
  CpuBackend cpu(pool);
  if (f.options.precision == "fp8") CHECK_THROWS_AS(make_precision(f.options, table, cpu, 2), InputError);
  else CHECK(make_precision(f.options, table, cpu, 2));
  CHECK_THROWS_AS(find_precision("fp4"), InputError);
}

TEST_CASE("planned memory of a precision is what a trainer holds", "[trainers][precision][memory]") {
  Fixture f;
  f.options.precision = GENERATE("fp16", "fp8");
  Run run(f, 2);
  const Trainer::Memory held = run.trainer.memory(), planned = Trainer::plan(f.space, f.options, f.stages, run.backend);
  CHECK(held.weights == planned.weights);
  CHECK(held.weights >= 2 * run.trainer.weights().bytes());
  std::int64_t numbers = 0;  // histories of a thousand uses are no small matter
  for (const auto& [name, values] : run.trainer.state().precision->numbers())
    if (name.starts_with("fp8")) numbers += static_cast<std::int64_t>(values->size() * sizeof(double));
  CHECK(held.weights >= 2 * run.trainer.weights().bytes() + numbers);
  CHECK(held.workspace == planned.workspace);
}

TEST_CASE("a trainer whose activations wait in a file has the weights of one that keeps them", "[trainers][offload][bits]") {
  Fixture f;
  const SearchSpace wide = wide_space(f.space);
  f.space = SearchSpace(wide.model(), {320}, wide.depth(), wide.blocks());
  f.options.steps = 6;
  f.options.sequences = 12;
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer kept(f.space, f.options, f.stages, *f.data, backend, kNoLimit);
  while (!kept.done()) kept.step();
  ScratchFile file(f.folder.path(), "test");
  const Trainer::Memory memory = Trainer::plan(f.space, f.options, f.stages, backend, std::nullopt, alone(), true);
  CHECK(memory.offloads);
  std::int64_t limit = memory.least_arena;  // the lowest under which something is sent
  while (limit < memory.arena_keeping_all && Trainer::plan(f.space, f.options, f.stages, backend, limit, alone(), true).away == 0)
    limit += (memory.arena_keeping_all - memory.least_arena) / 16;
  Trainer away(f.space, f.options, f.stages, *f.data, backend, limit, alone(), &file);
  CHECK(away.memory().away > 0);
  CHECK(away.memory().away == Trainer::plan(f.space, f.options, f.stages, backend, limit, alone(), true).away);
  while (!away.done()) away.step();
  CHECK(weights_hash(away.weights()) == weights_hash(kept.weights()));
  f.options.activations = "4bit";
  CHECK_THROWS_AS(Trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, alone(), &file), InputError);
}

}  // namespace elastiform
