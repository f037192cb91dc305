// Stages that learn hidden patches: what they train and leave alone, resumes, ranks, memory, and what the checkpoint is to others.
#include <algorithm>

#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/patch_decoder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/ranks.hpp"
#include "tests/trainers/masked_fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

bool is_of_head(const TensorSpec& tensor) { return tensor.name == "head" || tensor.name == "head.bias"; }

}  // namespace

TEST_CASE("hidden patches are learned first, then labels; neither stage moves what the other alone trains", "[trainers][masked]") {
  MaskedFixture f;
  const std::string policy = GENERATE("lazy-local", "catch-up");
  f.options.policy = policy;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const auto trainer = f.trainer(backend);
  const auto copy = [&] {
    Weights now(trainer->weights().shared_table(), DType::float32);
    now.assign(trainer->weights());
    return now;
  };
  const Weights start = copy();
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const StepReport report = trainer->step();
    CHECK(report.masked_patches == 9);  // 12 · 0.75
    (step < 5 ? first : last) += step < 5 || step >= 25 ? report.losses.front().label_loss / 5 : 0;
    CHECK(report.losses.front().tokens == 24 * 9);
  }
  CHECK(last < 0.97 * first);
  const Weights masked = copy();
  for (const TensorSpec& tensor : start.table().tensors()) CHECK(same_bits(masked.view(tensor), start.view(tensor)) == is_of_head(tensor));
  while (!trainer->done()) CHECK(trainer->step().masked_patches == 0);
  for (const TensorSpec& tensor : start.table().tensors()) {
    CAPTURE(tensor.name);
    CHECK(same_bits(trainer->weights().view(tensor), masked.view(tensor)) == tensor.of_decoder);
  }
  CHECK(trainer->skipped_steps() == 0);
}

TEST_CASE("what is hidden follows from what is seen, and is learned", "[trainers][masked]") {
  MaskedFixture f;
  f.options.steps = 200;
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest", .objective = "masked_patches", .mask_ratio = 0.5}};
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const auto trainer = f.trainer(backend);
  const double first = trainer->step().losses.front().label_loss;
  StepReport last;
  while (!trainer->done()) last = trainer->step();
  CHECK(last.losses.front().label_loss < 0.5 * first);
}

TEST_CASE("a training with hidden patches resumes bit for bit, on any number of threads, under any limit", "[trainers][masked][bits]") {
  MaskedFixture f;
  const std::string settings = GENERATE("plain", "sam, ema, accumulation", "bf16-pure", "fp8", "4bit", "lamb", "looksam, adafactor");
  CAPTURE(settings);
  if (settings == "sam, ema, accumulation") f.options.step_rule = "sam", f.options.ema = 0.9, f.options.accumulation = 2;
  if (settings == "bf16-pure" || settings == "fp8") f.options.precision = settings, f.options.fp8_window = 4;
  if (settings == "4bit") f.options.activations = settings;
  if (settings == "lamb") f.options.optimizer = settings;
  if (settings == "looksam, adafactor") f.options.step_rule = "looksam", f.options.look_every = 2, f.options.optimizer = "adafactor";
  const Precision precision = find_precision(f.options.precision).compute;
  if (precision != Precision::f32 && precisions_here().back() != precision) return;
  const ThreadPool two(2), five(5);
  CpuBackend backend(two, precision), other(five, precision);
  const auto straight = f.trainer(backend);
  while (!straight->done()) straight->step();
  CHECK(straight->skipped_steps() == 0);
  const std::int64_t stop = GENERATE(14, 30, 37);  // before, at and after the change of objectives
  const auto least =
      f.options.activations == "exact" ? std::optional(Trainer::plan(f.space, f.options, f.stages, other).least_arena) : std::nullopt;
  const auto before = f.trainer(other, alone(), least);
  while (before->next_step() < stop) before->step();
  save_checkpoint(*before, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  const auto after = f.trainer(backend);
  load_checkpoint(*after, f.folder / "supernet.h5");
  while (!after->done()) after->step();
  CHECK(weights_hash(after->weights()) == weights_hash(straight->weights()));
}

TEST_CASE("ranks that share micro-batches hide the same patches", "[trainers][masked][data_parallel]") {
  MaskedFixture f;
  f.options.accumulation = 2;
  f.options.sequences = 8;
  const auto trained = [&](Communicator& ranks) {
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    const auto trainer = f.trainer(backend, ranks);
    while (trainer->next_step() < 40) trainer->step();
    return weights_hash(trainer->weights());
  };
  const std::string one = trained(alone());
  std::vector<std::string> hashes(2);
  run_ranks(2, [&](Communicator& ranks) { hashes[static_cast<std::size_t>(ranks.rank())] = trained(ranks); });
  CHECK(hashes == std::vector<std::string>{one, one});
}

TEST_CASE("a checkpoint with a decoder is one without to whoever uses its weights", "[trainers][masked]") {
  MaskedFixture f;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const auto trainer = f.trainer(backend);
  while (trainer->next_step() < 33) trainer->step();
  save_checkpoint(*trainer, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  const LoadedSupernet loaded = load_supernet(f.folder / "supernet.h5");
  CHECK(loaded.space == MaskedFixture::with_decoder(false));
  for (const TensorSpec& tensor : loaded.weights.table().tensors())
    CHECK(same_bits(loaded.weights.view(tensor), trainer->weights().view(tensor.name)));
}

TEST_CASE("a step with hidden patches is cheaper in FLOPs by what the encoder does not see", "[trainers][masked][cost]") {
  MaskedFixture f;
  f.stages = {{.sampler = "largest", .objective = "masked_patches"}};
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const auto flops_at = [&](double ratio) {
    f.stages.front().mask_ratio = ratio;
    return f.trainer(backend)->step().flops;
  };
  // Three blocks of 24 channels, 3 heads of 4 and FFNs of 72; of 13 tokens the encoder sees 10, or 4.
  const auto expected = [&](std::int64_t seen) {
    const std::int64_t blocks = 3 * (seen * (4 * 24 * 12 + 2 * 24 * 72) + 2 * seen * seen * 12);
    return 6.0 * 24 * static_cast<double>(blocks + masked_macs(f.space.model(), 24, static_cast<int>(13 - seen)).all);
  };
  CHECK(flops_at(0.25) == expected(10));
  CHECK(flops_at(0.75) == expected(4));
}

TEST_CASE("masks that cannot be are refused", "[trainers][masked]") {
  MaskedFixture f;
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const auto refused = [&](const char* says) { check_input_error([&] { f.trainer(backend); }, says); };
  f.space = MaskedFixture::with_decoder(false);
  refused("a model with a decoder");
  f.space = MaskedFixture::with_decoder(true);
  f.stages.front().mask_ratio = 0.99;
  refused("12 hidden ones");
  f.stages.front().mask_ratio = 0.75;
  f.options.step_rule = "esam", f.options.sharp_share = 0.5;
  refused("sharp_share");
  f.options.sharp_share = 1;
  CHECK_NOTHROW(f.trainer(backend)->step());
  const Fixture text;
  check_input_error([&] { Trainer(text.space, f.options, f.stages, *text.data, backend); }, "a classifier of images");
}

}  // namespace elastiform
