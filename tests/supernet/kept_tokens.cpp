// Training passes in which middle blocks process some tokens only.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/network.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {
namespace {

/// Every block of the space gets tokens of its own: count of each sequence, ascending.
void keep(const SearchSpace& space, Batch& batch, std::int64_t count, std::uint64_t seed) {
  batch.kept.count = count;
  batch.kept.rows.clear();
  batch.kept.positions.clear();
  for (int block = 0; block < space.max_depth(); ++block)
    for (std::int64_t b = 0; b < batch.sequences; ++b) {
      RandomStream random(seed, Purpose::test, static_cast<std::uint64_t>(block), static_cast<std::uint32_t>(b));
      std::vector<std::int32_t> places;
      while (static_cast<std::int64_t>(places.size()) < count) {
        const auto place = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(batch.tokens)));
        if (std::find(places.begin(), places.end(), place) == places.end()) places.push_back(place);
      }
      std::sort(places.begin(), places.end());
      for (const std::int32_t place : places) {
        batch.kept.positions.push_back(place);
        batch.kept.rows.push_back(static_cast<std::int32_t>(b * batch.tokens) + place);
      }
    }
}

Pass run(const SearchSpace& space, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch,
         std::int64_t limit = kNoLimit) {
  return training_pass(Network(space, backend.dtype()), backend, weights, subnet, batch, {.limit = limit, .hidden = true});
}

}  // namespace

TEST_CASE("gradients agree with finite differences where middle blocks process some tokens", "[supernet][tokens]") {
  const SearchSpace space = tiny_space(GENERATE("llama", "gpt2"));
  const Subnet subnet = space.largest();
  ReferenceBackend backend;
  Weights weights = random_weights(space, DType::float64, 5);
  Batch batch = random_batch(space, 2, 9, 3);
  keep(space, batch, 4, 1);
  const Pass pass = run(space, backend, weights, subnet, batch);
  const auto loss = [&] { return run(space, backend, weights, subnet, batch).report.label_loss; };
  check_differences(weights, pass.gradients, subnet, loss);
}

TEST_CASE("the CPU agrees with float64 on kept tokens, on any number of threads and under every plan", "[supernet][tokens][bits]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const SearchSpace space = tiny_space(preset);
  const Subnet subnet = space.largest();
  Batch batch = random_batch(space, 30, 20, 3);
  keep(space, batch, 12, 1);
  ReferenceBackend reference;
  const Pass judge = run(space, reference, random_weights(space, DType::float64, 5), subnet, batch);
  const Weights weights = random_weights(space, DType::float32, 5);
  const ThreadPool one(1), five(5);
  CpuBackend serial(one), parallel(five);
  const Pass whole = run(space, serial, weights, subnet, batch);
  CHECK(whole.report.label_loss == Approx(judge.report.label_loss).epsilon(tolerance("network loss", DType::float32).relative * 4));
  const Pass threads = run(space, parallel, weights, subnet, batch), again = run(space, serial, weights, subnet, batch, 0);
  CHECK(weights_hash(threads.gradients) == weights_hash(whole.gradients));
  CHECK(weights_hash(again.gradients) == weights_hash(whole.gradients));
  CHECK(again.hidden == whole.hidden);
  Batch all = batch;
  all.kept = {};
  CHECK(whole.hidden != run(space, serial, weights, subnet, all).hidden);
}

TEST_CASE("kept tokens turn by their places in the text, see each other in order, and pass others by", "[supernet][tokens]") {
  const SearchSpace space = tiny_space("llama");
  ReferenceBackend backend;
  const Weights weights = random_weights(space, DType::float64, 5);
  // Only the middle block has attention, so what reaches it is a token's own.
  const Subnet subnet{.embed = 16, .blocks = {{0, 0, 16}, {4, 2, 16}, {0, 0, 16}}, .kept = {}};
  const auto hidden_of = [&](std::vector<std::int32_t> tokens, std::vector<std::int32_t> kept, std::size_t token) {
    Batch batch{.sequences = 1, .tokens = static_cast<std::int64_t>(tokens.size()), .inputs = tokens, .targets = tokens};
    batch.kept.count = static_cast<std::int64_t>(kept.size());
    batch.kept.rows.resize(3 * kept.size());
    std::iota(batch.kept.rows.begin(), batch.kept.rows.end(), 0);  // blocks 0 and 2 process all
    std::copy(kept.begin(), kept.end(), batch.kept.rows.begin() + static_cast<std::ptrdiff_t>(kept.size()));
    batch.kept.positions = batch.kept.rows;
    const Pass pass = run(space, backend, weights, subnet, batch);
    const auto begin = pass.hidden.begin() + static_cast<std::ptrdiff_t>(16 * token);
    return std::vector<double>(begin, begin + 16);
  };
  const auto near = [](const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
    return most < 1e-12;
  };
  const auto two_apart = hidden_of({5, 1, 7, 2, 3}, {0, 2}, 2);
  CHECK(near(two_apart, hidden_of({1, 5, 2, 7, 3}, {1, 3}, 3)));        // elsewhere, as far apart
  CHECK_FALSE(near(two_apart, hidden_of({5, 7, 1, 2, 3}, {0, 1}, 1)));  // next to each other
  CHECK_FALSE(near(two_apart, hidden_of({4, 1, 7, 2, 3}, {0, 2}, 2)));  // another token before it
  CHECK(near(two_apart, hidden_of({5, 9, 7, 2, 8}, {0, 2}, 2)));        // nobody sees tokens that are not kept
  const auto bypassed = hidden_of({5, 1, 7, 2, 3}, {0, 2}, 3);
  CHECK(near(bypassed, hidden_of({1, 1, 7, 2, 3}, {1, 2}, 3)));
  // Under causality the first tokens are what they are among all.
  const auto first = hidden_of({5, 1, 7, 2, 3}, {0, 1, 2}, 2), among_all = hidden_of({5, 1, 7, 2, 3}, {0, 1, 2, 3, 4}, 2);
  CHECK(near(first, among_all));
}

TEST_CASE("products of middle blocks follow the kept tokens", "[supernet][tokens]") {
  const SearchSpace space = tiny_space("llama");
  const Network network(space, DType::float32);
  const Subnet subnet = space.largest();
  const BackendTraits traits = traits_of(Precision::f32, 2);
  const auto flops = [&](const Subnet& s, std::int64_t kept) {
    return network.plan_training(traits, s, {4, 24, false, kept}).forward_flops;
  };
  Subnet ends = subnet;
  ends.blocks.erase(ends.blocks.begin() + 1);
  const std::int64_t middle = flops(subnet, 0) - flops(ends, 0);
  CHECK(flops(ends, 12) == flops(ends, 0));  // two blocks: none is between
  // Half the tokens: half of what is linear in them, and of pairs (12 · 13) / (24 · 25).
  const std::int64_t A = 6 * 4, pairs = 2 * 2 * (4 * 24) * A * 25 / 2;
  CHECK(flops(subnet, 12) - flops(ends, 12) == (middle - pairs) / 2 + pairs * (12 * 13) / (24 * 25));
}

TEST_CASE("evaluation takes all tokens, whatever a batch says that training keeps", "[supernet][tokens]") {
  const SearchSpace space = tiny_space("llama");
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  const Weights weights = random_weights(space, DType::float64, 5);
  const Subnet subnet = space.largest();
  const auto losses_of = [&](const Batch& batch) {
    const std::int64_t stream = Arena::bytes_for(batch.rows(), subnet.embed, DType::float64);
    const auto genes = subnet.blocks[0];
    Arena arena(2 * stream + Arena::bytes_for(1, batch.rows(), DType::float64) +
                std::max(network.plan_block(backend.traits(), subnet.embed, genes, batch.sequences, batch.tokens),
                         network.plan_score(backend.traits(), subnet.embed, batch.sequences, batch.tokens)));
    View x = arena.matrix(batch.rows(), subnet.embed, DType::float64), y = arena.matrix(batch.rows(), subnet.embed, DType::float64);
    const View losses = arena.matrix(1, batch.rows(), DType::float64);
    network.embed(backend, weights, subnet.embed, batch, x, arena);
    for (int i = 0; i < subnet.depth(); ++i) {
      network.forward_block(backend, weights, subnet.embed, genes, i, subnet.depth(), batch.tokens, x, y, arena);
      std::swap(x, y);
    }
    network.score(backend, weights, subnet.embed, x, batch, losses, {}, arena);
    return std::vector<double>(losses.row<double>(0), losses.row<double>(0) + batch.rows());
  };
  Batch batch = random_batch(space, 2, 9, 3);
  const std::vector<double> all = losses_of(batch);
  keep(space, batch, 4, 1);
  CHECK(losses_of(batch) == all);
}

}  // namespace elastiform
