#include "supernet/importance.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "supernet/network.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

SearchSpace space_of(const char* preset, int queries_per_group) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 61;
  model.context = 32;
  model.head_dim = 8;
  model.queries_per_group = queries_per_group;
  model.tied = GENERATE(true, false);
  const int heads = 4 * queries_per_group;
  const SearchSpace::Block block{.heads = {heads}, .ffn = {.widths = {40}, .ratios = {}}};
  return {model, {24}, {2}, {block, block}};
}

Weights random_weights(const SearchSpace& space) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    RandomStream random(11, Purpose::test, 1, ++index);
    const View view = weights.view(tensor);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column)
        view.row<float>(row)[column] = static_cast<float>((tensor.role == Role::gain ? 1 : 0) + 0.3 * random.normal());
  }
  return weights;
}

std::vector<float> logits_of(const Weights& weights) {
  const SearchSpace& space = weights.table().space();
  const ThreadPool serial(1);
  CpuBackend backend(serial);
  const Network network(space, DType::float32);
  const Subnet subnet = space.largest();
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 32; ++i) tokens.push_back(i * i % 61);
  Arena arena(network.plan_cache(subnet, 32) + network.plan_decode(backend.traits(), subnet, 32, 32) +
              Arena::bytes_for(32, 61, DType::float32));
  KeyValueCache cache = network.make_cache(subnet, 32, arena);
  const View logits = arena.matrix(32, 61, DType::float32);
  network.decode(backend, weights, subnet, tokens, cache, logits, arena);
  std::vector<float> values;
  for (std::int64_t row = 0; row < 32; ++row) values.insert(values.end(), logits.row<float>(row), logits.row<float>(row) + 61);
  return values;
}

bool falls(const std::vector<double>& values) { return std::is_sorted(values.rbegin(), values.rend()); }

}  // namespace

TEST_CASE("weights in order of importance compute what they did", "[supernet][importance]") {
  const SearchSpace space = space_of(GENERATE("llama", "gpt2"), GENERATE(1, 2));
  Weights weights = random_weights(space);
  const std::vector<float> before = logits_of(weights);
  CHECK_FALSE(falls(embed_importance(weights)));
  sort_by_importance(weights);
  CHECK(falls(embed_importance(weights)));
  for (int block = 0; block < 2; ++block) {
    CHECK(falls(group_importance(weights, block)));
    CHECK(falls(ffn_importance(weights, block)));
  }
  const std::vector<float> after = logits_of(weights);
  CHECK(before != after);  // sums in another order
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(before[i])));
    difference = std::max(difference, std::abs(static_cast<double>(before[i]) - static_cast<double>(after[i])));
  }
  CHECK(difference <= 1e-5 * largest);
}

TEST_CASE("what is large moves to the front, a group with its own queries, keys, values and rows of out", "[supernet][importance]") {
  const SearchSpace space = space_of("llama", 2);
  Weights weights = random_weights(space);
  const auto scale_columns = [&](const char* name, std::int64_t first, std::int64_t count) {
    const View view = weights.view(name);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = first; column < first + count; ++column) view.row<float>(row)[column] *= 10;
  };
  scale_columns("block.1.attention.query", 2 * 16, 16);  // group 2 of 4: two heads of 8
  scale_columns("block.1.ffn.up", 37, 1);
  scale_columns("embedding.token", 5, 1);
  const float query = weights.view("block.1.attention.query").row<float>(5)[2 * 16 + 3],
              key = weights.view("block.1.attention.key").row<float>(5)[2 * 8 + 1];
  const float out = weights.view("block.1.attention.out").row<float>(2 * 16 + 3)[5], up = weights.view("block.1.ffn.up").row<float>(5)[37];
  const float down = weights.view("block.1.ffn.down").row<float>(37)[5], token = weights.view("embedding.token").row<float>(7)[5];
  sort_by_importance(weights);
  CHECK(weights.view("block.1.attention.query").row<float>(0)[3] == query);
  CHECK(weights.view("block.1.attention.key").row<float>(0)[1] == key);
  CHECK(weights.view("block.1.attention.out").row<float>(3)[0] == out);
  CHECK(weights.view("block.1.ffn.up").row<float>(0)[0] == up);
  CHECK(weights.view("block.1.ffn.down").row<float>(0)[0] == down);
  CHECK(weights.view("embedding.token").row<float>(7)[0] == token);
}

}  // namespace elastiform
