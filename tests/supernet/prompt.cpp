// A tuned prompt: vectors in front of the tokens are what tokens there would be, wherever the network runs. A prefix: the same keys and
// values in training, in pieces and in a cache.
#include <cmath>
#include <numeric>

#include "supernet/arena_bytes.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/generation.hpp"
#include "supernet/network.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tuned_spaces.hpp"

namespace elastiform {
namespace {

constexpr int kPrompt = 3;

double training_loss(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch) {
  return training_pass(network, backend, weights, subnet, batch).report.label_loss;
}

}  // namespace

TEST_CASE("a prompt of embedded tokens is those tokens in front of the text", "[supernet][tuning][prompt]") {
  const SearchSpace llama = tiny_space("llama"), space = with_tuning(llama, prompts(kPrompt));
  Cpu cpu(2);
  Weights weights = random_weights(space, DType::float32, 5);
  const Weights plain = random_weights(llama, DType::float32, 6);
  copy_by_name(weights, plain);
  const std::int64_t T = llama.model().context - kPrompt;
  const Batch batch = random_batch(space, 4, T, 3);
  const std::vector<std::int32_t> ids{5, 1, 7};
  for (int p = 0; p < kPrompt; ++p)
    cpu.backend.copy(weights.view("embedding.prompt").row_range(p, 1),
                     plain.view("embedding.token").row_range(ids[static_cast<std::size_t>(p)], 1));
  Batch longer{.sequences = batch.sequences, .tokens = T + kPrompt, .inputs = {}, .targets = {}};
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    longer.inputs.insert(longer.inputs.end(), ids.begin(), ids.end());
    longer.targets.insert(longer.targets.end(), kPrompt, -100);
    longer.inputs.insert(longer.inputs.end(), batch.inputs.begin() + b * T, batch.inputs.begin() + (b + 1) * T);
    longer.targets.insert(longer.targets.end(), batch.targets.begin() + b * T, batch.targets.begin() + (b + 1) * T);
  }
  const Network tuned(space, DType::float32), network(llama, DType::float32);
  for (std::uint64_t i = 0; i < 5; ++i) {
    const Subnet subnet = random_subnet(space, i);
    CAPTURE(format(subnet));
    const double expected = training_loss(network, cpu.backend, plain, subnet, longer);
    CHECK(training_loss(tuned, cpu.backend, weights, subnet, batch) == Approx(expected).epsilon(1e-6));
    CHECK(training_loss(network, cpu.backend, plain, subnet, batch) != Approx(expected).epsilon(1e-4));
  }
}

TEST_CASE("a network with a prompt or prefix says the same in training, in pieces, and token by token", "[supernet][tuning][prompt]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const bool prefix = GENERATE(false, true);
  CAPTURE(preset, prefix);
  const SearchSpace space = with_tuning(tiny_space(preset), prefix ? prefixes(kPrompt) : prompts(kPrompt));
  Cpu cpu(2);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Network network(space, DType::float32);
  const Subnet subnet = random_subnet(space, 4);
  const std::int64_t T = 20, rows = T + kPrompt, V = space.model().vocabulary;
  const Batch batch = random_batch(space, 1, T, 3);
  const double expected = training_loss(network, cpu.backend, weights, subnet, batch);
  Weights without = random_weights(tiny_space(preset), DType::float32, 6);
  for (const TensorSpec& tensor : without.table().tensors()) cpu.backend.copy(without.view(tensor), weights.view(tensor.name));
  CHECK(training_loss(Network(without.table().space(), DType::float32), cpu.backend, without, subnet, batch) !=
        Approx(expected).epsilon(1e-4));

  const BackendTraits traits = cpu.backend.traits();
  std::int64_t scratch = std::max(network.plan_embed(traits, subnet.embed, 1), network.plan_score(traits, subnet.embed, 1, T));
  for (const BlockGenes& genes : subnet.blocks) scratch = std::max(scratch, network.plan_block(traits, subnet.embed, genes, 1, rows));
  Arena pieces(2 * Arena::bytes_for(rows, subnet.embed, DType::float32) + Arena::bytes_for(1, T, DType::float32) + scratch);
  View x = pieces.matrix(rows, subnet.embed, DType::float32), y = pieces.matrix(rows, subnet.embed, DType::float32);
  network.embed(cpu.backend, weights, subnet.embed, batch, x, pieces);
  for (int i = 0; i < subnet.depth(); ++i) {
    network.forward_block(cpu.backend, weights, subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], i, subnet.depth(), rows, x, y,
                          pieces);
    std::swap(x, y);
  }
  const View losses = pieces.matrix(1, T, DType::float32);
  network.score(cpu.backend, weights, subnet.embed, x, batch, losses, {}, pieces);
  const double mean = std::accumulate(losses.row<float>(0), losses.row<float>(0) + T, 0.0) / static_cast<double>(T);
  CHECK(mean == expected);

  Arena arena(network.plan_cache(subnet, T) + network.plan_decode(traits, subnet, 1, 1) + Arena::bytes_for(1, V, DType::float32));
  KeyValueCache cache = network.make_cache(subnet, T, arena);
  const View logits = arena.matrix(1, V, DType::float32);
  double sum = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    const auto at = static_cast<std::size_t>(t);
    network.decode(cpu.backend, weights, subnet, std::span(batch.inputs).subspan(at, 1), cache, logits, arena);
    double denominator = 0;
    for (std::int64_t v = 0; v < V; ++v) denominator += std::exp(static_cast<double>(logits.row<float>(0)[v]));
    sum += std::log(denominator) - static_cast<double>(logits.row<float>(0)[batch.targets[at]]);
  }
  CHECK(cache.tokens == rows);
  CHECK(sum / static_cast<double>(T) == Approx(expected).epsilon(1e-5));
}

TEST_CASE("generation begins its window with the prompt or prefix whenever that starts anew", "[supernet][tuning][prompt]") {
  const SearchSpace space = with_tuning(tiny_space("llama"), GENERATE(false, true) ? prefixes(kPrompt) : prompts(kPrompt));
  Cpu cpu(2);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Network network(space, DType::float32);
  const std::vector<std::int32_t> start{1, 2};
  std::vector<std::int32_t> said;
  const GenerationOptions options{.tokens = 3L * space.model().context};
  generate(cpu.backend, network, weights, space.largest(), start, options, [&](std::int32_t token) {
    said.push_back(token);
    return true;
  });
  CHECK(said.size() == static_cast<std::size_t>(options.tokens));
}

TEST_CASE("a prompt's costs: its vectors, and what blocks do with them", "[supernet][tuning][prompt][cost]") {
  const SearchSpace llama = tiny_space("llama"), space = with_tuning(llama, prompts(kPrompt));
  const auto state = [](const WeightTable& table) { return 8 * table.trained_elements(); };
  const CostModel plain(llama, {}, 4, state), costs(space, {}, 4, state);
  const std::int64_t T = llama.model().context, D = llama.model().head_dim;
  const auto up = [&](std::int64_t macs) { return (macs * (T + kPrompt) + T - 1) / T; };
  const Subnet subnet{.embed = 16, .blocks = {{4, 2, 16}, {0, 0, 16}}, .kept = {}};
  CHECK(costs.of(subnet).parameters - plain.of(subnet).parameters == kPrompt * 16);
  const std::int64_t expected =
      llama.model().vocabulary * 16 + (4 + 2) * up(2 * 16 * D) + 4 * up(D * (T + kPrompt + 1)) + 2 * 16 * up(3 * 16);
  CHECK(costs.of(subnet).macs == expected);
  CHECK(costs.of(subnet).inference_bytes > plain.of(subnet).inference_bytes);
  CHECK(costs.of(subnet).training_bytes < plain.of(subnet).training_bytes);
  CHECK(merged_space(space) == space);
}

TEST_CASE("a prefix's costs: its keys and values, and the rows whose places they take", "[supernet][tuning][prompt][cost]") {
  const SearchSpace llama = tiny_space("llama"), space = with_tuning(llama, prefixes(kPrompt));
  const auto state = [](const WeightTable& table) { return 8 * table.trained_elements(); };
  const CostModel plain(llama, {}, 4, state), costs(space, {}, 4, state), prompted(with_tuning(llama, prompts(kPrompt)), {}, 4, state);
  const Subnet subnet{.embed = 16, .blocks = {{4, 2, 16}, {0, 0, 16}}, .kept = {}};
  CHECK(costs.of(subnet).parameters - plain.of(subnet).parameters == 2 * kPrompt * 2 * llama.model().head_dim);
  CHECK(costs.of(subnet).macs == prompted.of(subnet).macs);
  CHECK(merged_space(space) == space);
}

TEST_CASE("prompts and prefixes that cannot be are refused", "[supernet][tuning][prompt]") {
  const SearchSpace llama = tiny_space("llama");
  CHECK_THROWS_AS(with_tuning(llama, prompts(0)), InputError);
  CHECK_THROWS_AS(with_tuning(llama, prompts(1025)), InputError);
  CHECK_THROWS_AS(with_tuning(llama, prefixes(0)), InputError);
  CHECK_THROWS_AS(with_tuning(llama, prefixes(1025)), InputError);
  for (const SearchSpace& space : {with_tuning(llama, prompts(7)), with_tuning(llama, prefixes(7))})
    CHECK(SearchSpace::parse(space.text(), "test") == space);
  CHECK(with_tuning(llama, lora(llama.model())).text().find("tokens\"") == std::string::npos);  // texts of other tunings are what they were
}

}  // namespace elastiform
