// Whole trainings on CUDA-on-host beside the CPU's.
#include <cmath>
#include <string>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda_on_host/device_memory.hpp"
#include "kernels/cuda_on_host/settings.hpp"
#include "kernels/random.hpp"
#include "search/prefix_evaluator.hpp"
#include "supernet/classification.hpp"
#include "supernet/data/image_data.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/tolerances.hpp"
#include "tests/support/tuned_spaces.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {
namespace {

namespace gpu = ELASTIFORM_GPU;
namespace host = ELASTIFORM_GPU::host;
using gpu::CudaBackend;
using gpu::PinnedSpace;

/// A sandwich of a small supernet, labels and in-place distillation: 2 blocks of embed 64.
struct Sandwich : Fixture {
  Sandwich() {
    ModelConfig model = space.model();
    model.head_dim = 16;
    model.queries_per_group = 2;
    const SearchSpace::Block choices{.heads = {2, 4}, .ffn = {.widths = {96, 128}, .ratios = {}}};
    space = SearchSpace(model, {32, 64}, {1, 2}, {choices, choices});
    options.steps = kSanitized ? 4 : 20;
    options.sequences = 2;
    stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels+largest", .hidden_weight = 0.5}};
    resolve_stages(stages, options.steps);
  }
};

struct Trained {
  std::string hash;
  std::vector<double> losses;
};

/// The same of a small classifier: 9 patches of 40 random images, with mixed labels.
struct Images : Sandwich {
  explicit Images(Readout readout) {
    ModelConfig model = preset_model("vit");
    model.image = {6, 6, 1, 2};
    model.vocabulary = 4;
    model.readout = readout;
    model.distillation_token = readout == Readout::class_token;
    model.context = model.tokens_of_image();
    model.head_dim = 16;
    const SearchSpace::Block choices{.heads = {2, 4}, .ffn = {.widths = {96, 128}, .ratios = {}}};
    space = SearchSpace(model, {32, 64}, {1, 2}, {choices, choices});
    options.steps = kSanitized ? 3 : 8;
    options.sequences = 5;
    options.label_smoothing = 0.1;
    resolve_stages(stages, options.steps);
    std::string text;
    RandomStream random(3, Purpose::test);
    for (int i = 0; i < 40; ++i) {
      for (int value = 0; value < 36; ++value) text += std::to_string(random.below(256)) + ",";
      text += std::to_string(i % 4) + "\n";
    }
    DataOptions where{.text = "", .splits = {60, 20, 20}};
    where.image.images = folder.write("images.csv", text);
    images = std::make_unique<ImageData>(where, space.model(), Augmentation{.crop = 1, .mixup = 0.2});
  }
  std::unique_ptr<ImageData> images;
};

Trained train(const Fixture& f, const DataSource& data, Backend& backend) {
  Trainer trainer(f.space, f.options, f.stages, data, backend);
  Trained result;
  while (!trainer.done())
    for (const LossReport& loss : trainer.step().losses) result.losses.push_back(loss.label_loss);
  result.hash = weights_hash(trainer.weights());
  return result;
}

Trained train(const Fixture& f, Backend& backend) { return train(f, *f.data, backend); }

void check_close(const std::vector<double>& found, const std::vector<double>& expected, const char* row) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i] == Approx(expected[i]).epsilon(tolerance(row, DType::float32).relative));
  }
}

/// The losses of the CPU, and the same bits in whatever order blocks and threads run.
void check_images_train(const Images& f) {
  CudaBackend device;
  Cpu cpu(2);
  const Trained found = train(f, *f.images, device);
  check_close(found.losses, train(f, *f.images, cpu.backend).losses, "training");
  const gpu::OrderGuard guard(gpu::Order::shuffle, 7);
  CudaBackend other;
  CHECK(train(f, *f.images, other).hash == found.hash);
}

void check_close_floats(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    CHECK(found[i] == Approx(expected[i]).epsilon(tolerance("training", DType::float32).relative).margin(1e-5));
}

}  // namespace

TEST_CASE("a tuning on the device has the CPU's losses, and shadows of weights alone", "[cuda][training][tuning]") {
  Sandwich f;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  const TuningMethod method = GENERATE(TuningMethod::lora, TuningMethod::ssf, TuningMethod::adapter);
  CAPTURE(name_of(precision), static_cast<int>(method));
  const SearchSpace plain = f.space;
  f.options.precision = name_of(precision);
  f.options.steps = 4;
  resolve_stages(f.stages, f.options.steps);
  f.space = with_tuning(plain, method == TuningMethod::lora  ? lora(plain.model(), 4, 8)
                               : method == TuningMethod::ssf ? ssf(plain.model())
                                                             : adapters(8));
  CudaBackend device(precision);
  Trainer trainer(f.space, f.options, f.stages, *f.data, device);
  std::vector<double> losses;
  while (!trainer.done())
    for (const LossReport& loss : trainer.step().losses) losses.push_back(loss.label_loss);
  // The arena, whose shadow would be half of it, has none.
  if (precision == Precision::bf16) CHECK(device.shadow_bytes() < trainer.memory().weights / 2 + trainer.memory().arena / 4);
  if (precision == Precision::f32 || precisions_here().back() == Precision::bf16) {
    Cpu cpu(2, precision);
    check_close(losses, train(f, cpu.backend).losses, precision == Precision::f32 ? "training" : "training bf16");
  }
}

TEST_CASE("a sandwich trained on the device has the CPU's losses, and the same bits in every order", "[cuda][training]") {
  Sandwich f;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  f.options.precision = name_of(precision);
  CAPTURE(f.options.precision);
  CudaBackend device(precision);
  const Trained found = train(f, device);
  CHECK(device.recorded() > 0);  // blocks that were met again
  if (precision == Precision::f32 || precisions_here().back() == Precision::bf16) {
    Cpu cpu(2, precision);
    check_close(found.losses, train(f, cpu.backend).losses, precision == Precision::f32 ? "training" : "training bf16");
  }
  for (const gpu::Order order : {gpu::Order::reverse, gpu::Order::shuffle}) {
    if (kSanitized && order == gpu::Order::reverse) continue;
    const gpu::OrderGuard guard(order, 7);
    CudaBackend other(precision);
    CHECK(train(f, other).hash == found.hash);
  }
}

TEST_CASE("what the backend keeps for itself stays within the plan", "[cuda][training]") {
  Sandwich f;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  f.options.precision = name_of(precision);
  f.options.optimizer = GENERATE("adamw", "adamw8bit", "lamb");
  f.options.step_rule = GENERATE("plain", "sam", "looksam");
  f.options.steps = 3;
  CudaBackend device(precision);
  const std::int64_t planned = Trainer::plan(f.space, f.options, f.stages, device).workspace;
  CHECK(device.kept_bytes() == 0);
  Trainer trainer(f.space, f.options, f.stages, *f.data, device);
  while (!trainer.done()) trainer.step();
  CHECK(device.kept_bytes() > 0);
  CHECK(device.kept_bytes() + kLibraryWorkspaceBytes <= planned);
  // A second pass has teachers at the weights of before, which are rounded too: that the plan counts them both.
  const std::int64_t weights = trainer.memory().weights;
  const int copies = precision == Precision::f32 ? 0 : f.options.step_rule == "plain" ? 1 : 2;
  CHECK(device.shadow_bytes() == copies * weights / 2);
  f.options.step_rule = "plain";
  const std::int64_t plain = Trainer::plan(f.space, f.options, f.stages, device).workspace;
  CHECK(planned - plain == (copies == 2 ? weights / 2 + 256 : 0));
}

TEST_CASE("a steady step allocates nothing on the device, and waits for its losses and its norm alone", "[cuda][training]") {
  Sandwich f;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  const std::string sampler = GENERATE("largest", "sandwich");
  f.options.precision = name_of(precision);
  f.options.steps = 6;
  f.stages = {{.share = 1, .steps = 0, .sampler = sampler, .objective = sampler == "sandwich" ? "labels+largest" : "labels"}};
  resolve_stages(f.stages, f.options.steps);
  CudaBackend device(precision);
  Trainer trainer(f.space, f.options, f.stages, *f.data, device);
  for (int i = 0; i < 3; ++i) trainer.step();  // warm: scratch and uploads have their size, the largest is recorded
  for (int i = 0; i < 3; ++i) {
    const gpu::host::Counts before = gpu::host::counts();
    const StepReport report = trainer.step();
    const gpu::host::Counts after = gpu::host::counts();
    CAPTURE(name_of(precision), sampler, report.step);
    CHECK(after.allocations == before.allocations);
    CHECK(after.waits - before.waits <= 2 * static_cast<std::int64_t>(report.losses.size()) + 1);
  }
}

TEST_CASE("dropout on the device has the CPU's masks", "[cuda][training][dropout]") {
  Sandwich f;
  f.space = with_residual(f.space, GENERATE(ResidualRule::branch_scale, ResidualRule::layerscale, ResidualRule::deepnorm));
  f.options.dropout = 0.3;
  f.options.steps = kSanitized ? 2 : 6;
  resolve_stages(f.stages, f.options.steps);
  CudaBackend device;
  const Trained found = train(f, device);
  Cpu cpu(2);
  check_close(found.losses, train(f, cpu.backend).losses, "training");
  CudaBackend again;
  CHECK(train(f, again).hash == found.hash);
  f.options.dropout = 0;
  CHECK(train(f, cpu.backend).losses.back() != Approx(found.losses.back()).epsilon(1e-4));  // they were no small thing
}

TEST_CASE("residual rules and kept tokens train on the device as on the CPU", "[cuda][training][residual][tokens]") {
  const ResidualRule rule = GENERATE(ResidualRule::fixup, ResidualRule::layerscale, ResidualRule::admin, ResidualRule::rezero);
  CAPTURE(residual_rule(rule).name);
  Sandwich f;
  const SearchSpace::Block& block = f.space.blocks().front();
  f.space = with_residual(SearchSpace(f.space.model(), f.space.embed(), {2, 3}, {block, block, block}), rule);
  f.options.steps = kSanitized ? 3 : 8;
  f.options.tokens = rule == ResidualRule::admin ? "importance" : "random_ltd";
  f.options.tokens_step = 4;
  resolve_stages(f.stages, f.options.steps);
  CudaBackend device;
  Cpu cpu(2);
  const Trained found = train(f, device);
  CHECK((kSanitized || device.recorded() > 0));  // in three steps no piece of work is met twice
  check_close(found.losses, train(f, cpu.backend).losses, "training");
}

TEST_CASE("a classifier trains on the device as on the CPU, and names the same classes", "[cuda][training][vision]") {
  const Images f(GENERATE(Readout::class_token, Readout::mean));
  check_images_train(f);

  Cpu cpu(2);
  const gpu::OrderGuard guard(gpu::Order::shuffle, 7);
  CudaBackend other;
  const Weights weights = random_weights(f.space, DType::float32, 5);
  const auto windows = f.images->scoring_windows(Split::search, f.space.model().context, 1, 0);
  const Batch batch = f.images->scoring_batch(windows, 0, static_cast<std::int64_t>(windows.size()), f.space.model().context);
  const auto logits_on = [&](Backend& backend) {
    const PlacedWeights placed(weights, backend.memory());
    return image_logits(backend, Network(f.space, DType::float32, backend.memory()), *placed, f.space.middle(), batch);
  };
  check_close_floats(logits_on(other), logits_on(cpu.backend));
}

TEST_CASE("hidden patches are learned on the device as on the CPU, and labels after them", "[cuda][training][vision][masked]") {
  Images f(GENERATE(Readout::class_token, Readout::mean));
  ModelConfig model = f.space.model();
  model.decoder = {.embed = 32, .depth = 2, .heads = 2};  // blocks of the same genes as a subnet's
  f.space = SearchSpace(model, f.space.embed(), f.space.depth(), f.space.blocks());
  f.stages = {{.share = 0.5, .steps = 0, .sampler = "sandwich", .objective = "masked_patches", .mask_ratio = 0.5},
              {.share = 0.5, .steps = 0, .sampler = "balanced"}};
  resolve_stages(f.stages, f.options.steps);
  check_images_train(f);
}

TEST_CASE("every optimizer and step rule trains on the device as on the CPU, the average with it", "[cuda][training][optimizers]") {
  struct Case {
    std::string optimizer, rule, policy;
  };
  const Case c = GENERATE(values<Case>({{"sgd", "plain", "dense"},
                                        {"lion", "looksam", "catch-up"},
                                        {"adamw", "sam", "catch-up"},
                                        {"lars", "plain", "catch-up"},
                                        {"lamb", "sam", "lazy-local"},
                                        {"adafactor", "looksam", "lazy-local"},
                                        {"adamw8bit", "plain", "catch-up"}}));
  CAPTURE(c.optimizer, c.rule, c.policy);
  Sandwich f;
  find_optimizer(c.optimizer).set_defaults(f.options);
  f.options.optimizer = c.optimizer, f.options.step_rule = c.rule, f.options.policy = c.policy;
  f.options.ema = 0.9, f.options.look_every = 2;
  f.options.steps = kSanitized ? 3 : 6;
  f.stages = {{.share = 1, .steps = 0, .sampler = "balanced", .objective = "labels", .largest = 0.2}};
  resolve_stages(f.stages, f.options.steps);
  CudaBackend device;
  Cpu cpu(2);
  Trainer there(f.space, f.options, f.stages, *f.data, device), here(f.space, f.options, f.stages, *f.data, cpu.backend);
  std::vector<double> found, expected;
  while (!here.done()) {
    found.push_back(there.step().losses.front().label_loss);
    expected.push_back(here.step().losses.front().label_loss);
  }
  check_close(found, expected, "training");
  const auto norm_of = [&](const Trainer& trainer, Backend& backend) {
    BandScratch scratch(trainer.weights().table());
    const ActiveBands all(std::vector<bool>(static_cast<std::size_t>(trainer.weights().table().band_count()), true));
    return global_norm(backend, *trainer.average(), all, scratch);
  };
  CHECK(norm_of(there, device) == Approx(norm_of(here, cpu.backend)).epsilon(1e-4));
  CHECK(weights_hash(*there.average()) != weights_hash(there.weights()));
}

TEST_CASE("a training goes on on the other device", "[cuda][training]") {
  const Sandwich f;
  Cpu cpu(2);
  const Trained straight = train(f, cpu.backend);
  const bool device_first = GENERATE(false, true);
  CAPTURE(device_first);
  CudaBackend device;
  Backend &first = device_first ? static_cast<Backend&>(device) : cpu.backend,
          &second = device_first ? static_cast<Backend&>(cpu.backend) : device;
  std::vector<double> losses;
  std::string hash;
  {
    Trainer trainer(f.space, f.options, f.stages, *f.data, first);
    while (trainer.next_step() < f.options.steps / 2)
      for (const LossReport& loss : trainer.step().losses) losses.push_back(loss.label_loss);
    save_checkpoint(trainer, "recipe", f.data->sha256(), f.folder / "supernet.h5");
    hash = weights_hash(trainer.weights());
  }
  Trainer trainer(f.space, f.options, f.stages, *f.data, second);
  const BuildIdentity identity = load_checkpoint(trainer, f.folder / "supernet.h5");
  CHECK(identity.isa == first.arithmetic());
  CHECK(identity.isa != second.arithmetic());
  CHECK(weights_hash(trainer.weights()) == hash);
  while (!trainer.done())
    for (const LossReport& loss : trainer.step().losses) losses.push_back(loss.label_loss);
  check_close(losses, straight.losses, "training");
}

TEST_CASE("activations that wait in pinned memory give the bits of those that do not", "[cuda][offload]") {
  const Sandwich f;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  CudaBackend backend(precision);
  const Network network(f.space, DType::float32, backend.memory());
  const Weights weights = copied(random_weights(f.space, DType::float32, 11), backend.memory());
  const Batch batch = random_batch(f.space, 2, 9, 8);
  PinnedSpace pinned;
  Arena away(1 << 20, pinned);
  CHECK(host::place_of(away.matrix(1, 8, DType::float32).data) == host::Place::pinned);
  away.release(0);
  const Subnet subnet = GENERATE_REF(f.space.smallest(), f.space.largest());
  std::int64_t waits = 0;  // of the host, in the last pass
  const auto gradient = [&](const ActivationPlan& plan) {
    Weights gradients(weights.shared_table(), DType::float32, backend.memory());
    Arena arena(plan.arena_bytes, backend.memory());
    away.reset_peak();
    const std::int64_t before = host::counts().waits;
    network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena, kNobodyIsTold, &away);
    waits = host::counts().waits - before;
    return weights_hash(gradients);
  };
  ActivationPlan plan = network.plan_training(backend.traits(), subnet, {batch.sequences, batch.tokens});
  const std::string expected = gradient(plan);
  CHECK(away.peak() == 0);
  const std::int64_t usual = waits;
  for (BlockPlan& block : plan.blocks)
    for (int id = 0; id < 4; ++id) block.attention.bits.set(id, TensorBits::kAway), block.feed_forward.bits.set(id, TensorBits::kAway);
  plan.planned_bytes = 0;  // made by hand
  plan.arena_bytes *= 2;   // more than it takes
  CHECK(gradient(plan) == expected);
  CHECK(away.peak() > 0);
  CHECK(waits <= usual);  // it goes on while what waits is on its way
}

TEST_CASE("subnets scored on the device have the CPU's losses", "[cuda][evaluation]") {
  offer_device(Device::cuda_on_host,
               [](Precision precision) -> std::unique_ptr<Backend> { return std::make_unique<CudaBackend>(precision); });
  const Sandwich f;
  const ThreadPool pool(2);
  const Network network(f.space, DType::float32);
  const Weights weights = random_weights(f.space, DType::float32, 3);
  const ScoringSet set{Split::search, f.space.model().context, 1};
  const std::vector<Subnet> subnets{f.space.smallest(), f.space.largest(), random_subnet(f.space, 1)};
  PrefixEvaluator here(network, weights, *f.data, set, pool, Precision::f32);
  PrefixEvaluator there(network, weights, *f.data, set, pool, Compute(Device::cuda_on_host, Precision::f32));
  const std::vector<Score> expected = here.evaluate(subnets), found = there.evaluate(subnets);
  for (std::size_t i = 0; i < subnets.size(); ++i)
    CHECK(found[i].loss == Approx(expected[i].loss).epsilon(tolerance("network loss", DType::float32).relative));
  CHECK(there.plan_bytes(subnets) > 0);
}

}  // namespace elastiform
