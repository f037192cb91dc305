#include "supernet/activation_plan.hpp"

#include <cstring>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/network.hpp"
#include "supernet/plan_cache.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/spaces.hpp"

namespace elastiform {
namespace {

/// One pass of a subnet, everything that depends on its plan.
struct Pass {
  LossReport report;
  Weights gradients;
};

struct Setting {
  const Network& network;
  Backend& backend;
  const Weights& weights;
  const Batch& batch;
  Teacher teacher;
  LossOptions options;

  Pass run(const Subnet& subnet, const ActivationPlan& plan) const {
    Weights gradients(weights.shared_table(), weights.dtype());
    Arena arena(plan.arena_bytes + 4096);
    // Whatever stands in the arena: a plan that reads what it dropped gives other bits.
    const View all = arena.matrix(1, arena.capacity() / bytes_of(weights.dtype()), weights.dtype());
    std::memset(all.data, 0xFF, static_cast<std::size_t>(arena.capacity()));
    arena.release(0);
    arena.reset_peak();
    const LossReport report = network.forward_backward(backend, weights, gradients, subnet, batch, options, teacher, {}, plan, arena);
    CHECK(arena.peak() == plan.arena_bytes);  // planned == used, to the byte
    CHECK(arena.used() == 0);
    return {report, std::move(gradients)};
  }
};

bool same_bits(const Pass& a, const Pass& b) {
  if (std::memcmp(&a.report.label_loss, &b.report.label_loss, sizeof(double)) != 0) return false;
  if (std::memcmp(&a.report.teacher_loss, &b.report.teacher_loss, sizeof(double)) != 0) return false;
  return same_bits(a.gradients, b.gradients);
}

/// Every combination of what branches drop, in all blocks alike.
std::vector<ActivationPlan> uniform_plans(const Subnet& subnet) {
  std::vector<BlockPlan> kinds;
  for (const TensorSet a : Attention::levels())
    for (const TensorSet f : FeedForward::levels()) kinds.push_back({a, f, false});
  for (const TensorSet a : Attention::levels()) kinds.push_back({a, FeedForward::levels().back(), true});
  std::vector<ActivationPlan> plans;
  for (const BlockPlan& kind : kinds) plans.push_back({.blocks = std::vector<BlockPlan>(subnet.blocks.size(), kind), .decoder = {}});
  return plans;
}

/// The one subnet of docs/memory.md: embed 384, six layers, context 256.
SearchSpace one_gpt2() {
  ModelConfig model = preset_model("gpt2");
  model.context = 256;
  model.head_dim = 64;
  return SearchSpace(model, {384}, {6}, std::vector<SearchSpace::Block>(6, {.heads = {6}, .ffn = {.widths = {}, .ratios = {4}}}));
}

}  // namespace

TEST_CASE("200 subnets under 5 limits each: planned bytes are used bytes, and the bits are those of keeping everything",
          "[supernet][memory]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const ThreadPool pool(2);
  const Precision precision = GENERATE(from_range(precisions_here()));
  CpuBackend backend(pool, precision);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);  // 322 rows: a whole panel and a short one
  std::vector<float> hidden(static_cast<std::size_t>(batch.targets_count() * 24));
  RandomStream random(4, Purpose::test);
  for (float& h : hidden) h = static_cast<float>(random.normal());
  int recomputed = 0, middles = 0, kept_some = 0;
  for (std::uint64_t i = 0; i < (precision == Precision::f32 ? 100 : 40); ++i) {
    const Subnet subnet = random_subnet(space, i);
    const bool taught = i % 3 == 0;
    const Setting setting{network, backend, weights, batch, {}, {}};
    Setting with_teacher = setting;
    with_teacher.teacher = {.hidden = view_of(hidden.data(), batch.targets_count(), 24, 24), .embed = 24};
    with_teacher.options = {.label_weight = 0.25, .teacher_weight = 0.75, .hidden_weight = 0.5, .temperature = 2, .share = 0.5};
    const Setting& s = taught ? with_teacher : setting;
    const PassShape shape{batch.sequences, batch.tokens, taught};
    const ActivationPlan all = network.plan_training(backend.traits(), subnet, shape);
    const std::int64_t least = network.plan_training(backend.traits(), subnet, shape, 0).arena_bytes;
    CHECK(all.recomputed_flops == 0);
    if (preset == "vit" && least == all.arena_bytes) continue;  // one small block: the patches' gradient is the peak
    REQUIRE(least < all.arena_bytes);
    const Pass expected = s.run(subnet, all);
    for (int step = 0; step < 5; ++step) {
      const std::int64_t limit = least + (all.arena_bytes - 1 - least) * step / 4;
      const ActivationPlan plan = network.plan_training(backend.traits(), subnet, shape, limit);
      CAPTURE(preset, name_of(precision), format(subnet), limit);
      REQUIRE(plan.arena_bytes <= limit);
      REQUIRE(same_bits(s.run(subnet, plan), expected));
      for (const BlockPlan& block : plan.blocks) {
        recomputed += block == BlockPlan{} ? 0 : 1;
        middles += block.middle ? 1 : 0;
        kept_some += block == BlockPlan{} ? 1 : 0;
      }
    }
  }
  CHECK(recomputed > 100);
  CHECK(middles > 10);
  CHECK(kept_some > 10);
}

TEST_CASE("what branches drop in all combinations gives the same bits, in float64 too", "[supernet][memory]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  const Weights weights = random_weights(space, DType::float64, 11);
  const Batch batch = random_batch(space, 2, 7, 8);
  const Setting s{network, backend, weights, batch, {}, {}};
  const Subnet subnet = space.middle();
  const Pass expected = s.run(subnet, network.plan_training(backend.traits(), subnet, {2, batch.tokens}));
  for (ActivationPlan plan : uniform_plans(subnet)) {
    Weights gradients(weights.shared_table(), weights.dtype());
    Arena arena(1 << 22);
    const LossReport report = network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena);
    CHECK(same_bits({report, std::move(gradients)}, expected));
  }
}

TEST_CASE("blocks without one of their branches are planned to the byte too", "[supernet][memory]") {
  const SearchSpace space = tiny_space("llama");
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 3);
  const Batch batch = random_batch(space, 2, 24, 8);
  const Setting s{network, backend, weights, batch, {}, {}};
  const Subnet subnet{.embed = 16, .blocks = {{0, 0, 16}, {4, 2, 0}}, .kept = {0, 2}};
  const ActivationPlan all = network.plan_training(backend.traits(), subnet, {2, 24});
  const ActivationPlan least = network.plan_training(backend.traits(), subnet, {2, 24}, 0);
  CHECK(least.arena_bytes < all.arena_bytes);
  CHECK(same_bits(s.run(subnet, least), s.run(subnet, all)));
}

TEST_CASE("every subnet fits where the largest does", "[supernet][memory]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const Network network(space, DType::float32);
  const PassShape shape{12, space.model().context, true};
  const std::int64_t least = network.plan_training(traits_of(Precision::f32, 2), space.largest(), shape, 0).arena_bytes;
  const std::int64_t most = network.plan_training(traits_of(Precision::f32, 2), space.largest(), shape).arena_bytes;
  for (std::uint64_t i = 0; i < 200; ++i) {
    Subnet subnet = random_subnet(space, i);
    if (i % 4 == 1) subnet.blocks.front().heads = subnet.blocks.front().groups = 0;
    if (i % 4 == 2) subnet.blocks.back().ffn = 0;
    CAPTURE(preset, format(subnet));
    REQUIRE(network.plan_training(traits_of(Precision::f32, 2), subnet, shape, least).arena_bytes <= least);
    REQUIRE(network.plan_training(traits_of(Precision::f32, 2), subnet, shape).arena_bytes <= most);
  }
}

TEST_CASE("in bf16 what products multiply takes half the bytes", "[supernet][memory]") {
  const SearchSpace space = tiny_space("llama");
  const Network network(space, DType::float32);
  const Subnet subnet = space.largest();
  const std::int64_t f32 = network.plan_training(traits_of(Precision::f32, 1), subnet, {12, 24}).arena_bytes;
  const std::int64_t bf16 = network.plan_training(traits_of(Precision::bf16, 1), subnet, {12, 24}).arena_bytes;
  CHECK(bf16 < f32 * 7 / 10);
  CHECK(bf16 > f32 / 2);  // the stream between blocks stays float32
}

TEST_CASE("lower limits never recompute less, and FLOPs are counted as the cost model does", "[supernet][memory]") {
  const SearchSpace space = one_gpt2();
  const Network network(space, DType::float32);
  const PassShape shape{8, 256};
  const auto plan = [&](std::int64_t limit) { return network.plan_training(traits_of(Precision::f32, 2), space.largest(), shape, limit); };
  const ActivationPlan all = plan(kNoLimit);
  // 2·macs a token: 12·C² + A·(T+1) of each block, and the head's.
  CHECK(all.forward_flops == std::int64_t{2} * 2048 * (6 * (12 * 384 * 384 + 384 * 257) + 384 * space.model().vocabulary));
  double before = 0;
  for (int percent = 100; percent >= 25; percent -= 5) {
    const ActivationPlan one = plan(all.arena_bytes * percent / 100);
    CAPTURE(percent);
    CHECK(one.arena_bytes <= all.arena_bytes * percent / 100);
    CHECK(one.recomputed_share() >= before);
    before = one.recomputed_share();
  }
  // A quarter of the bytes without running any product twice that is not needed: outputs of branches are kept.
  CHECK(before < 0.8);
}

TEST_CASE("without a limit what costs next to nothing is computed again, in float32", "[supernet][memory]") {
  const SearchSpace space = one_gpt2();
  const Network network(space, DType::float32);
  const auto shares = [&](Precision precision) {
    const BackendTraits traits = traits_of(precision, 2);
    const std::int64_t bytes = network.unlimited_training_bytes(traits, space.largest(), {8, 256});
    const ActivationPlan plan = network.plan_training(traits, space.largest(), {8, 256}, bytes);
    CHECK(plan.arena_bytes == bytes);
    CHECK(plan.recomputed_flops == 0);  // elementwise work only
    return static_cast<double>(bytes) / static_cast<double>(network.plan_training(traits, space.largest(), {8, 256}).arena_bytes);
  };
  CHECK(shares(Precision::f32) < 0.75);
  CHECK(shares(Precision::bf16) > 0.8);  // beside faster products elementwise work is dearer
}

TEST_CASE("plans are solved once for a subnet, pass and limit", "[supernet][memory]") {
  const SearchSpace space = tiny_space("gpt2");
  const Network network(space, DType::float32);
  PlanCache cache(network, traits_of(Precision::f32, 2));
  const std::int64_t all = cache.of(space.largest(), {2, 24}, kNoLimit).arena_bytes;
  CHECK(cache.of(space.largest(), {2, 24}, kNoLimit).arena_bytes == all);
  CHECK(cache.solved() == 1);
  CHECK(cache.of(space.largest(), {2, 24}, all - 1).arena_bytes < all);
  CHECK(cache.of(space.largest(), {2, 24, true}, kNoLimit).arena_bytes > all);
  CHECK(cache.of(space.smallest(), {2, 24}, kNoLimit).arena_bytes < all);
  CHECK(cache.solved() == 4);
  CHECK(cache.of(space.largest(), {2, 24}, kNoLimit).arena_bytes == all);
  CHECK(cache.solved() == 4);
}

}  // namespace elastiform
