// Networks of which a part learns: gradients, plans, slices, merging.
#include <cstring>
#include <limits>

#include "kernels/reference/reference_backend.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/network.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tuned_spaces.hpp"

namespace elastiform {
namespace {

/// Every kind of tuning that there is, of both presets.
std::vector<SearchSpace> tuned_spaces() {
  const SearchSpace llama = tiny_space("llama"), gpt2 = tiny_space("gpt2");
  return {with_tuning(gpt2, bitfit()),
          with_tuning(llama, lora(llama.model())),
          with_tuning(gpt2, lora(gpt2.model())),
          with_tuning(llama, lora(llama.model(), 3, 1, {"query", "down"})),
          with_tuning(llama, ssf(llama.model())),
          with_tuning(gpt2, ssf(gpt2.model())),
          with_tuning(llama, adapters()),
          with_tuning(gpt2, adapters(5)),
          with_tuning(llama, prompts()),
          with_tuning(gpt2, prompts(5)),
          with_tuning(tiny_space("vit"), prompts(2)),
          with_tuning(llama, prefixes()),
          with_tuning(tiny_space("vit"), prefixes(2)),
          with_tuning(llama, elastic_lora(llama.model())),
          with_tuning(gpt2, lora(gpt2.model(), 1, 1, {"value"})),
          with_tuning(llama, lora(llama.model(), 2, 4, {"gate", "out"}))};
}

void check_gradients(const SearchSpace& space, const Subnet& subnet, std::int64_t limit) {
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = random_batch(space, 2, 7, 3);
  const Pass pass = training_pass(network, backend, weights, subnet, batch, {.limit = limit});
  CAPTURE(limit);
  const auto loss = [&] { return training_pass(network, backend, weights, subnet, batch, {.limit = limit}).report.label_loss; };
  check_differences(weights, pass.gradients, subnet, loss);
}

TEST_CASE("gradients of what learns agree with finite differences, frozen tensors have none", "[supernet][tuning]") {
  const SearchSpace space = tuned_spaces()[static_cast<std::size_t>(GENERATE(range(0, 16)))];
  const std::int64_t limit = GENERATE(as<std::int64_t>{}, kNoLimit, 0);
  check_gradients(space, random_subnet(space, 3), limit);
  check_gradients(space, space.largest(), limit);
  Subnet ranked = random_subnet(space, 4);
  for (const int rank : space.model().tuning.ranks) {
    ranked.rank = rank == space.model().tuning.rank ? 0 : rank;
    check_gradients(space, ranked, limit);
  }
}

TEST_CASE("a tuned network has the same bits on every number of threads and under every plan", "[supernet][tuning][bits]") {
  const SearchSpace space = tuned_spaces()[static_cast<std::size_t>(GENERATE(range(0, 14)))];
  const Precision precision = GENERATE(from_range(precisions_here()));
  const Batch batch = random_batch(space, 40, 23, 3);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Network network(space, DType::float32);
  Cpu serial(1, precision);
  const Pass expected = training_pass(network, serial.backend, weights, space.largest(), batch);
  for (const std::int64_t limit : {kNoLimit, std::int64_t{0}}) {
    Cpu cpu(3, precision);
    const Pass found = training_pass(network, cpu.backend, weights, space.largest(), batch, {.limit = limit});
    CHECK(found.report.label_loss == expected.report.label_loss);
    CHECK(same_bits(found.gradients, expected.gradients));
  }
}

TEST_CASE("a slice of a tuned supernet has the loss and gradients of its dense copy, bit for bit", "[supernet][tuning][slicing]") {
  const SearchSpace space = tuned_spaces()[static_cast<std::size_t>(GENERATE(range(0, 14)))];
  Cpu cpu(2);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Subnet subnet = random_subnet(space, i);
    Weights masked = extract(weights, space.largest());
    fill_outside(masked, subnet, std::numeric_limits<double>::quiet_NaN());
    const Pass sliced = training_pass(network, cpu.backend, masked, subnet, batch);
    const Weights dense_weights = extract(weights, subnet);
    const SearchSpace& dense_space = dense_weights.table().space();
    const Pass dense = training_pass(Network(dense_space, DType::float32), cpu.backend, dense_weights, dense_space.largest(), batch);
    CAPTURE(format(subnet));
    CHECK(sliced.report.label_loss == dense.report.label_loss);
    for (const TensorSpec& tensor : dense.gradients.table().tensors()) {
      if (!tensor.trained) continue;
      const ConstView whole = sliced.gradients.view(tensor.name), part = dense.gradients.view(tensor);
      CHECK(same_bits(whole.slice(part.rows, part.columns), part));
    }
  }
}

TEST_CASE("merged weights compute what the tuned network does, and merging commutes with slicing, bit for bit", "[supernet][tuning]") {
  const SearchSpace space = tuned_spaces()[static_cast<std::size_t>(GENERATE(range(0, 6)))];
  Cpu cpu(2);
  const Weights weights = random_weights(space, DType::float32, 4);
  const Weights plain = merged(weights);
  CHECK(plain.table().space() == merged_space(space));
  CHECK(plain.table().space().model().tuning == Tuning{});
  const Batch batch = random_batch(space, 3, 24, 8);
  for (std::uint64_t i = 0; i < 10; ++i) {
    const Subnet subnet = random_subnet(space, i);
    CAPTURE(format(subnet));
    const LossReport apart = training_pass(Network(space, DType::float32), cpu.backend, weights, subnet, batch).report;
    const LossReport together = training_pass(Network(plain.table().space(), DType::float32), cpu.backend, plain, subnet, batch).report;
    CHECK(apart.label_loss == together.label_loss);
    CHECK(same_bits(extract(plain, subnet), merged(extract(weights, subnet))));
  }
}

TEST_CASE("what begins at zero leaves the network as it was", "[supernet][tuning]") {
  const SearchSpace llama = tiny_space("llama"), space = with_tuning(llama, lora(llama.model()));
  Weights weights = random_weights(space, DType::float32, 4);
  const Weights base = random_weights(llama, DType::float32, 9);
  copy_by_name(weights, base);
  for (const TensorSpec& tensor : weights.table().tensors())
    for (std::int64_t row = 0; tensor.role == Role::zero && row < tensor.rows; ++row)
      std::memset(weights.view(tensor).row<float>(row), 0, static_cast<std::size_t>(tensor.columns) * sizeof(float));
  CHECK(same_bits(merged(weights), base));
}

TEST_CASE("as many parameters learn as the formula says, and they stand first", "[supernet][tuning]") {
  const SearchSpace llama = tiny_space("llama"), gpt2 = tiny_space("gpt2");
  const auto learning = [](const SearchSpace& space) {
    const WeightTable table(space);
    std::int64_t sum = 0;
    for (const TensorSpec& tensor : table.tensors()) {
      CHECK((tensor.offset < table.trained_elements()) == tensor.trained);
      if (tensor.trained) sum += tensor.rows * tensor.columns;
    }
    return sum;
  };
  // Largest llama: 3 blocks, C 24, A 6·4, G 3·4, F 72. Rank 2: 2·(in + out) a map.
  const std::int64_t C = 24, A = 24, G = 12, F = 72;
  CHECK(learning(with_tuning(llama, lora(llama.model(), 2))) == 3 * 2 * ((C + A) + 2 * (C + G) + (A + C) + 3 * (C + F)));
  CHECK(learning(with_tuning(llama, lora(llama.model(), 2, 1, {"query"}))) == 3 * 2 * (C + A));
  // Largest gpt2: A 3·4; biases of norms, attention, FFN and the final norm.
  CHECK(learning(with_tuning(llama, adapters(3))) == 3 * 2 * 2 * C * 3);
  CHECK(learning(with_tuning(llama, ssf(llama.model()))) == 3 * (A + 2 * G + C + 2 * F + C));
  CHECK(learning(with_tuning(gpt2, bitfit())) == 3 * (C + 3 * 12 + C + C + F + C) + C);
}

TEST_CASE("what frozen weights do not need is not kept from forward to backward", "[supernet][tuning][memory]") {
  const SearchSpace gpt2 = tiny_space("gpt2"), frozen = with_tuning(gpt2, bitfit());
  const BackendTraits traits;
  const PassShape pass{16, 24};
  const std::int64_t rows = pass.batch * pass.tokens;
  const ActivationPlan all = plan_activations(gpt2.model(), traits, gpt2.largest(), pass);
  const ActivationPlan few = plan_activations(frozen.model(), traits, frozen.largest(), pass);
  // Both norms' outputs and the activation; backward takes a place for d(up) in one block at a time, where the other has the activation's.
  const std::int64_t C = TensorShape{rows, 24}.bytes(traits.dtype), F = TensorShape{rows, 72}.bytes(traits.dtype);
  CHECK(all.arena_bytes - few.arena_bytes >= 3 * (2 * C + F) - F - C);
  // LoRA of the values alone needs the first norm's output, and neither the second's nor the activation.
  const SearchSpace value = with_tuning(gpt2, lora(gpt2.model(), 1, 1, {"value"}));
  CHECK(plan_activations(value.model(), traits, value.largest(), pass).arena_bytes < all.arena_bytes);
}

TEST_CASE("adapters stay: their parameters and multiply-adds count", "[supernet][tuning][cost]") {
  const SearchSpace llama = tiny_space("llama"), tuned = with_tuning(llama, adapters(3));
  CHECK(merged_space(tuned) == tuned);
  const auto state = [](const WeightTable& table) { return 8 * table.trained_elements(); };
  const CostModel plain(llama, {}, 4, state), more(tuned, {}, 4, state);
  const Subnet subnet{.embed = 16, .blocks = {{0, 0, 16}, {4, 2, 16}}, .kept = {}};  // three branches
  CHECK(more.of(subnet).parameters - plain.of(subnet).parameters == 3 * 2 * 16 * 3);
  CHECK(more.of(subnet).macs - plain.of(subnet).macs == 3 * 2 * 16 * 3);
}

TEST_CASE("costs know what learns", "[supernet][tuning][cost]") {
  const SearchSpace llama = tiny_space("llama"), tuned = with_tuning(llama, lora(llama.model()));
  const auto state = [](const WeightTable& table) { return 8 * table.trained_elements(); };
  const CostModel full(llama, {}, 4, state), small(tuned, {}, 4, state);
  const Subnet subnet = llama.middle();
  const Costs a = full.of(subnet), b = small.of(subnet);
  CHECK(a.parameters == b.parameters);  // of what is deployed: merged
  CHECK(a.macs == b.macs);
  CHECK(a.inference_bytes == b.inference_bytes);
  const WeightTable table(SearchSpace::of(tuned.model(), subnet));
  const Subnet dense = table.space().largest();
  CHECK(b.training_bytes == 4 * table.elements() + 12 * table.trained_elements() +
                                plan_activations(tuned.model(), traits_of(Precision::f32, 1), dense, {4, 24}).arena_bytes);
  CHECK(full.training_flops(subnet) == 6.0 * static_cast<double>(a.macs));
  CHECK(small.training_flops(subnet) < full.training_flops(subnet));
  CHECK(small.training_flops(subnet) > 4.0 * static_cast<double>(a.macs));
}

TEST_CASE("methods stand in the registry in their order, and are found by name", "[supernet][tuning]") {
  for (std::size_t i = 0; i < parametrizations().size(); ++i) {
    const ParametrizationEntry& entry = parametrizations()[i];
    CHECK(static_cast<std::size_t>(entry.method) == i);
    CHECK(&find_parametrization(entry.name, "test") == &entry);
    CHECK(&parametrization_of(tuned_by(entry.method)) == &entry);
  }
}

TEST_CASE("tunings that cannot work are refused", "[supernet][tuning]") {
  const SearchSpace llama = tiny_space("llama"), gpt2 = tiny_space("gpt2");
  Tuning no_targets = lora(llama.model());
  no_targets.targets = {};
  CHECK_THROWS_AS(with_tuning(llama, bitfit()), InputError);  // no biases
  CHECK_THROWS_AS(with_tuning(llama, lora(llama.model(), 0)), InputError);
  CHECK_THROWS_AS(with_tuning(llama, lora(llama.model(), 2, -1)), InputError);
  CHECK_THROWS_AS(with_tuning(gpt2, lora(gpt2.model(), 2, 1, {"gate"})), InputError);
  CHECK_THROWS_AS(with_tuning(llama, no_targets), InputError);
  CHECK_THROWS_AS(with_tuning(llama, adapters(0)), InputError);
  CHECK_THROWS_WITH(find_linear_map("quary", "targets"), Catch::Matchers::Contains("nearest query"));
}

TEST_CASE("a tuned space has its text", "[supernet][tuning]") {
  const SearchSpace llama = tiny_space("llama"), tuned = with_tuning(llama, lora(llama.model(), 3, 1.5, {"query", "down"}));
  CHECK(SearchSpace::parse(tuned.text(), "test") == tuned);
  CHECK(tuned.hash() != llama.hash());
  CHECK(llama.text().find("tuning") == std::string::npos);
}

}  // namespace
}  // namespace elastiform
