#include "supernet/importance.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

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

std::vector<Batch> some_batches() {
  std::vector<Batch> batches(2);
  for (std::size_t b = 0; b < 2; ++b) {
    RandomStream random(5, Purpose::test, b);
    batches[b].sequences = 3, batches[b].tokens = 32;
    for (int i = 0; i < 96; ++i) batches[b].inputs.push_back(static_cast<std::int32_t>(random.below(61)));
    batches[b].targets = batches[b].inputs;
  }
  return batches;
}

ActivationStatistics statistics_of(const Weights& weights, int threads = 1) {
  const ThreadPool pool(threads);
  CpuBackend backend(pool);
  return activation_statistics(backend, weights, some_batches());
}

/// Each at most what stands before it, but for rounding.
bool hardly_rises(const std::vector<double>& values) {
  for (std::size_t i = 1; i < values.size(); ++i)
    if (values[i] > values[i - 1] * (1 + 1e-4)) return false;
  return true;
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

TEST_CASE("statistics are mean squares of what products are given, the same bits on any number of threads",
          "[supernet][importance][bits]") {
  const SearchSpace space = space_of(GENERATE("llama", "gpt2"), 2);
  const Weights weights = random_weights(space);
  const ActivationStatistics one = statistics_of(weights), two = statistics_of(weights, 2);
  CHECK(one.tokens == 192);
  CHECK(one.hidden == two.hidden);
  REQUIRE(one.blocks.size() == 2);
  for (std::size_t b = 0; b < 2; ++b) {
    CHECK(one.blocks[b].attention_normed == two.blocks[b].attention_normed);
    CHECK(one.blocks[b].mixed == two.blocks[b].mixed);
    CHECK(one.blocks[b].feed_forward_normed == two.blocks[b].feed_forward_normed);
    CHECK(one.blocks[b].activated == two.blocks[b].activated);
    CHECK(one.blocks[b].mixed.size() == 64);
    CHECK(one.blocks[b].activated.size() == 40);
  }
  // The first block's normed input by hand: the embedding, normed.
  const std::vector<Batch> batches = some_batches();
  const ConstView table = weights.view("embedding.token"), gain = weights.view("block.0.attention.norm.gain");
  if (space.model().norm != Norm::rms) return;
  std::vector<double> squares(24);
  for (const Batch& batch : batches)
    for (const std::int32_t token : batch.inputs) {
      double mean = 0;
      for (int c = 0; c < 24; ++c)
        mean += static_cast<double>(table.row<float>(token)[c]) * static_cast<double>(table.row<float>(token)[c]) / 24;
      for (std::size_t c = 0; c < 24; ++c) {
        const double value = static_cast<double>(table.row<float>(token)[c]) * static_cast<double>(gain.row<float>(0)[c]);
        squares[c] += value * value / (mean + space.model().norm_eps) / 192;
      }
    }
  for (std::size_t c = 0; c < 24; ++c) CHECK(one.blocks[0].attention_normed[c] == Approx(squares[c]).epsilon(1e-4));
}

TEST_CASE("weights in order of what activations say compute what they did", "[supernet][importance]") {
  const SearchSpace space = space_of(GENERATE("llama", "gpt2"), GENERATE(1, 2));
  Weights weights = random_weights(space);
  const std::vector<float> before = logits_of(weights);
  const ActivationStatistics statistics = statistics_of(weights);
  CHECK_FALSE(hardly_rises(embed_importance(weights, statistics)));
  find_importance("activations", "test").sort(weights, statistics);
  const ActivationStatistics sorted = statistics_of(weights);
  CHECK(hardly_rises(embed_importance(weights, sorted)));
  for (int block = 0; block < 2; ++block) {
    CHECK(hardly_rises(group_importance(weights, sorted, block)));
    CHECK(hardly_rises(ffn_importance(weights, sorted, block)));
  }
  const std::vector<float> after = logits_of(weights);
  CHECK(before != after);
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(before[i])));
    difference = std::max(difference, std::abs(static_cast<double>(before[i]) - static_cast<double>(after[i])));
  }
  CHECK(difference <= 1e-5 * largest);
}

TEST_CASE("by activations every matrix of channels counts once, and a tied table as embedding and as head", "[supernet][importance]") {
  const SearchSpace space = space_of(GENERATE("llama", "gpt2"), 1);
  const Weights weights = random_weights(space);
  double whole = space.model().tied ? 1 : 0;  // each counts by shares, whose sum is 1
  for (const TensorSpec& tensor : weights.table().tensors())
    if (tensor.role != Role::gain && tensor.role != Role::bias)
      whole += tensor.row_axis == Axis::embed || tensor.column_axis == Axis::embed ? 1 : 0;
  const std::vector<double> importance = embed_importance(weights, statistics_of(weights));
  CHECK(std::accumulate(importance.begin(), importance.end(), 0.0) == Approx(whole));
}

TEST_CASE("a neuron with large weights that never fires is the most important by magnitude and the least by activations",
          "[supernet][importance]") {
  const SearchSpace space = space_of("llama", 1);
  Weights weights = random_weights(space);
  const View gate = weights.view("block.1.ffn.gate"), up = weights.view("block.1.ffn.up");
  for (std::int64_t row = 0; row < gate.rows; ++row) gate.row<float>(row)[7] *= 100, up.row<float>(row)[7] = 0;
  const std::vector<double> magnitude = ffn_importance(weights, 1), activations = ffn_importance(weights, statistics_of(weights), 1);
  CHECK(std::max_element(magnitude.begin(), magnitude.end()) - magnitude.begin() == 7);
  CHECK(std::min_element(activations.begin(), activations.end()) - activations.begin() == 7);
  // A KV group whose values are nothing adds nothing, whatever its queries and keys.
  const View query = weights.view("block.0.attention.query"), value = weights.view("block.0.attention.value");
  for (std::int64_t row = 0; row < value.rows; ++row)
    for (std::int64_t c = 8; c < 16; ++c) query.row<float>(row)[c] *= 100, value.row<float>(row)[c] = 0;
  const std::vector<double> of_groups = group_importance(weights, 0), observed = group_importance(weights, statistics_of(weights), 0);
  CHECK(std::max_element(of_groups.begin(), of_groups.end()) - of_groups.begin() == 1);
  CHECK(std::min_element(observed.begin(), observed.end()) - observed.begin() == 1);
  CHECK_THROWS_AS(find_importance("activation", "test"), InputError);
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
