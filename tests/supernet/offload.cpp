#include <cstring>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/scratch_file.hpp"
#include "supernet/activation_plan.hpp"
#include "supernet/network.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {

namespace {

/// So wide that in float32 a product costs more than to write what it computes to a file: else plans do the product again.
SearchSpace wide_space(const std::string& preset) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 61;
  model.context = 24;
  model.head_dim = 32;
  const SearchSpace::Block block{{4, 8}, {.widths = {}, .ratios = {2, 4}}};
  return SearchSpace(model, {320}, {1, 2}, {block, block});
}

}  // namespace

TEST_CASE("activations that wait in a file give the bits of those that do not", "[supernet][memory][offload]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const Precision precision = GENERATE(from_range(precisions_here()));
  const SearchSpace space = wide_space(preset);
  const ThreadPool pool(2);
  CpuBackend backend(pool, precision);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);
  const PassShape shape{batch.sequences, batch.tokens};
  const ActivationChoices choices{.offloads = true};
  const TemporaryFolder folder;
  ScratchFile file(folder.path(), "test");
  Arena away(24 << 20, file);  // more than a pass sends
  int sent = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const Subnet subnet = i == 0 ? space.largest() : random_subnet(space, i);
    const auto gradient = [&](const ActivationPlan& plan) {
      Weights gradients(weights.shared_table(), DType::float32);
      Arena arena(plan.arena_bytes);
      std::memset(away.matrix(1, away.capacity() / 4, DType::float32).data, 0xFF, static_cast<std::size_t>(away.capacity()));
      away.release(0);
      away.reset_peak();
      network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena, kNobodyIsTold, &away);
      if (plan.planned_bytes > 0) CHECK(arena.peak() == plan.arena_bytes);  // 0: made by hand
      if (plan.planned_bytes > 0) CHECK(away.peak() == plan.away_bytes);
      CHECK(away.used() == 0);
      return weights_hash(gradients);
    };
    const ActivationPlan all = network.plan_training(backend.traits(), subnet, shape);
    CHECK(all.away_bytes == 0);
    const std::string expected = gradient(all);
    ActivationPlan by_hand = all;
    for (BlockPlan& block : by_hand.blocks)
      for (int id = 0; id < 4; ++id) block.attention.bits.set(id, TensorBits::kAway), block.feed_forward.bits.set(id, TensorBits::kAway);
    by_hand.planned_bytes = 0;
    by_hand.arena_bytes *= 2;  // more than it takes
    CHECK(gradient(by_hand) == expected);
    const std::int64_t least = network.plan_training(backend.traits(), subnet, shape, 0, choices).arena_bytes;
    CHECK(least <= network.plan_training(backend.traits(), subnet, shape, 0).arena_bytes);
    for (int step = 0; step < 4; ++step) {
      const std::int64_t limit = least + (all.arena_bytes - 1 - least) * step / 3;
      const ActivationPlan plan = network.plan_training(backend.traits(), subnet, shape, limit, choices);
      CAPTURE(preset, name_of(precision), format(subnet), limit);
      REQUIRE(plan.arena_bytes <= limit);
      CHECK(gradient(plan) == expected);
      sent += plan.away_bytes > 0 ? 1 : 0;
    }
  }
  if (precision == Precision::f32) CHECK(sent > 3);
}

TEST_CASE("a plan that sends activations away needs somewhere to send them to", "[supernet][memory][offload]") {
  const SearchSpace space = tiny_space("gpt2");
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  Weights gradients(weights.shared_table(), DType::float32);
  const Batch batch = random_batch(space, 2, 7, 8);
  ActivationPlan plan = network.plan_training(backend.traits(), space.largest(), {2, 7});
  plan.blocks.front().attention.bits.set(0, TensorBits::kAway);
  Arena arena(1 << 22);
  CHECK_THROWS_AS(network.forward_backward(backend, weights, gradients, space.largest(), batch, {}, {}, {}, plan, arena), std::logic_error);
}

}  // namespace elastiform
