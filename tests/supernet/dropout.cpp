#include "supernet/dropout.hpp"

#include <set>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/network.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {
namespace {

constexpr PassDropout kDropout{.rate = 0.3, .seed = 5, .step = 17, .rows_before = 40};

Pass run(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch,
         const PassDropout& dropout, std::int64_t limit = kNoLimit) {
  return training_pass(network, backend, weights, subnet, batch, {.options = {.dropout = dropout}, .limit = limit});
}

void check_gradients(const SearchSpace& space) {
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = random_batch(space, 2, 7, 3);
  const Subnet subnet = space.middle();
  const Pass pass = run(network, backend, weights, subnet, batch, kDropout);
  CHECK(pass.report.label_loss != run(network, backend, weights, subnet, batch, {}).report.label_loss);
  const auto loss = [&] { return run(network, backend, weights, subnet, batch, kDropout).report.label_loss; };
  check_differences(weights, pass.gradients, subnet, loss, {.inside = true});
}

}  // namespace

TEST_CASE("gradients with dropout agree with finite differences under the same masks", "[supernet][dropout]") {
  check_gradients(tiny_space(GENERATE("llama", "gpt2")));
}

TEST_CASE("under every residual rule dropout is the last thing that a branch does", "[supernet][dropout][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  CAPTURE(residual_rule(rule).name);
  const SearchSpace space = with_residual(tiny_space("gpt2"), rule);
  check_gradients(space);
  // What backward computes again is dropped alike.
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Batch batch = random_batch(space, 14, 23, 8);
  Cpu one(1), three(3);
  const Pass whole = run(network, one.backend, weights, space.largest(), batch, kDropout);
  CHECK(same_bits(run(network, three.backend, weights, space.largest(), batch, kDropout, 0).gradients, whole.gradients));
  CHECK(whole.report.label_loss != run(network, one.backend, weights, space.largest(), batch, {}).report.label_loss);
}

TEST_CASE("every plan repeats the masks of dropout", "[supernet][dropout]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const SearchSpace space = tiny_space(preset);
  const Precision precision = GENERATE(from_range(precisions_here()));
  const Cpu cpu(2, precision);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);  // 322 rows: a whole panel and a short one
  for (const Subnet& subnet : {space.largest(), random_subnet(space, 4)}) {
    const PassShape shape{.batch = batch.sequences, .tokens = batch.tokens, .dropout = kDropout.rate};
    const auto bytes = [&](std::int64_t limit) { return network.plan_training(cpu.backend.traits(), subnet, shape, limit).arena_bytes; };
    const std::int64_t most = bytes(kNoLimit), least = bytes(0);
    CHECK(least < most);
    CHECK(most >= network.plan_training(cpu.backend.traits(), subnet, {batch.sequences, batch.tokens}).arena_bytes);
    auto& backend = const_cast<CpuBackend&>(cpu.backend);
    const Pass expected = run(network, backend, weights, subnet, batch, kDropout);
    std::set<std::int64_t> seen;
    for (int part = 0; part <= 8; ++part) {
      const std::int64_t limit = least + (most - least) * part / 8;
      if (!seen.insert(bytes(limit)).second) continue;
      CAPTURE(preset, format(subnet), limit);
      const Pass pass = run(network, backend, weights, subnet, batch, kDropout, limit);
      CHECK(pass.report.label_loss == expected.report.label_loss);
      CHECK(same_bits(pass.gradients, expected.gradients));
    }
    CHECK(seen.size() > 2);
  }
}

TEST_CASE("with dropout too a slice is its dense network, on any number of threads", "[supernet][dropout][slicing]") {
  const SearchSpace space = tiny_space(GENERATE("llama", "gpt2"));
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);
  Cpu one(1), three(3);
  for (std::uint64_t i = 0; i < 12; ++i) {
    const Subnet subnet = random_subnet(space, i);
    CAPTURE(format(subnet));
    const Pass sliced = run(network, one.backend, weights, subnet, batch, kDropout);
    const Weights dense_weights = extract(weights, subnet);
    const SearchSpace& dense_space = dense_weights.table().space();
    const Network dense_network(dense_space, DType::float32);
    const Pass dense = run(dense_network, three.backend, dense_weights, dense_space.largest(), batch, kDropout);
    CHECK(sliced.report.label_loss == dense.report.label_loss);
    CHECK(same_bits(extract(sliced.gradients, subnet), dense.gradients));
  }
}

TEST_CASE("rate 0 is the network without dropout, and a mask belongs to a row of the step", "[supernet][dropout]") {
  const SearchSpace space = tiny_space("gpt2");
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 4, 24, 8);
  Cpu cpu(2);
  const auto loss = [&](const Batch& rows, const PassDropout& dropout) {
    return run(network, cpu.backend, weights, space.largest(), rows, dropout).report.label_loss;
  };
  const Pass none = run(network, cpu.backend, weights, space.largest(), batch, {});
  const Pass zero = run(network, cpu.backend, weights, space.largest(), batch, {.rate = 0, .seed = 5, .step = 17});
  CHECK(none.report.label_loss == zero.report.label_loss);
  CHECK(same_bits(none.gradients, zero.gradients));

  const PassDropout dropout{.rate = 0.3, .seed = 5, .step = 17};
  double mean = 0;
  for (std::int64_t half = 0; half < 2; ++half) {
    Batch part = batch;
    part.sequences = 2;
    const auto cut = [&](auto& all) { all = {all.begin() + half * 48, all.begin() + half * 48 + 48}; };
    cut(part.inputs);
    cut(part.targets);
    PassDropout its = dropout;
    its.rows_before = half * 48;
    mean += loss(part, its) / 2;
  }
  CHECK(mean == Approx(loss(batch, dropout)).epsilon(tolerance("accumulation", DType::float32).relative));
  std::set<double> losses{loss(batch, {})};
  for (const PassDropout& other :
       {dropout, PassDropout{.rate = 0.3, .seed = 6, .step = 17}, PassDropout{.rate = 0.3, .seed = 5, .step = 18},
        PassDropout{.rate = 0.3, .seed = 5, .step = 17, .rows_before = 96}, PassDropout{.rate = 0.4, .seed = 5, .step = 17}})
    losses.insert(loss(batch, other));
  CHECK(losses.size() == 6);
}

}  // namespace elastiform
