#include "supernet/generation.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"

using namespace elastiform;

namespace {

std::map<std::int32_t, int> counts(std::span<const float> logits, const GenerationOptions& options, int draws) {
  std::map<std::int32_t, int> result;
  for (int step = 0; step < draws; ++step) ++result[pick_token(logits, options, static_cast<std::uint64_t>(step))];
  return result;
}

SearchSpace tiny_space() {
  ModelConfig model = preset_model("llama");
  model.context = 8;
  model.head_dim = 4;
  const SearchSpace::Block block{.heads = {1, 2}, .ffn = {.widths = {8, 16}, .ratios = {}}};
  return {model, {8, 16}, {1, 2}, {block, block}};
}

/// A tiny network in float64 with large random weights, so that tokens depend on what stands before them.
struct Tiny {
  SearchSpace space = tiny_space();
  Network network{space, DType::float64};
  Weights weights{std::make_shared<const WeightTable>(space), DType::float64};
  ReferenceBackend backend;
  Subnet subnet = space.largest();

  Tiny() {
    RandomStream random(3, Purpose::test);
    for (const TensorSpec& tensor : weights.table().tensors()) {
      const View view = weights.view(tensor);
      for (std::int64_t row = 0; row < view.rows; ++row)
        for (std::int64_t column = 0; column < view.columns; ++column) view.row<double>(row)[column] = random.normal();
    }
  }

  std::vector<std::int32_t> generated(const std::vector<std::int32_t>& prompt, const GenerationOptions& options) {
    std::vector<std::int32_t> tokens;
    generate(backend, network, weights, subnet, prompt, options, [&](std::int32_t token) { return tokens.push_back(token), true; });
    return tokens;
  }

  /// The greedy token after `tokens`, all of them read at once into a fresh cache.
  std::int32_t after(const std::vector<std::int32_t>& tokens) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    Arena arena(network.plan_cache(subnet, count) + network.plan_decode(backend.traits(), subnet, count, count) +
                Arena::bytes_for(count, 256, DType::float64));
    KeyValueCache cache = network.make_cache(subnet, count, arena);
    const View logits = arena.matrix(count, 256, DType::float64);
    network.decode(backend, weights, subnet, tokens, cache, logits, arena);
    const double* last = logits.row<double>(count - 1);
    return static_cast<std::int32_t>(std::max_element(last, last + 256) - last);
  }
};

}  // namespace

TEST_CASE("greedy takes the largest logit, and the first of equal ones", "[generation]") {
  CHECK(pick_token(std::vector<float>{1, 5, 3}, {}, 0) == 1);
  CHECK(pick_token(std::vector<float>{2, 7, 7, 1}, {}, 3) == 1);
  CHECK(pick_token(std::vector<float>{2, 7, 7, 1}, {.temperature = 0.7, .top_k = 1}, 3) == 1);
  CHECK(pick_token(std::vector<float>{2, 7, 7, 1}, {.temperature = 0.7, .top_p = 1e-9}, 3) == 1);
}

TEST_CASE("sampling follows softmax(logits / temperature)", "[generation]") {
  // Probabilities 0.6, 0.3, 0.1 at temperature 1; 5,000 draws have a standard error of 0.007, and 0.03 is four of them.
  const std::vector<float> logits{std::log(0.3f), std::log(0.6f), std::log(0.1f)};
  auto seen = counts(logits, {.temperature = 1, .seed = 1}, 5000);
  CHECK(std::abs(seen[0] / 5000.0 - 0.3) < 0.03);
  CHECK(std::abs(seen[1] / 5000.0 - 0.6) < 0.03);
  // At temperature 1/2 probabilities are squared: 0.09, 0.36, 0.01 of 0.46.
  seen = counts(logits, {.temperature = 0.5, .seed = 1}, 5000);
  CHECK(std::abs(seen[1] / 5000.0 - 0.36 / 0.46) < 0.03);
  CHECK(std::abs(seen[0] / 5000.0 - 0.09 / 0.46) < 0.03);
}

TEST_CASE("top-k comes first, then top-p over what is left", "[generation]") {
  const std::vector<float> logits{std::log(0.25f), std::log(0.4f), std::log(0.2f), std::log(0.15f)};
  auto seen = counts(logits, {.temperature = 1, .top_k = 2}, 3000);
  CHECK(seen.size() == 2);
  CHECK(std::abs(seen[1] / 3000.0 - 0.4 / 0.65) < 0.04);
  // 0.4 + 0.25 reaches 0.6; 0.2 does not belong to the nucleus.
  CHECK(counts(logits, {.temperature = 1, .top_p = 0.6}, 3000).size() == 2);
  CHECK(counts(logits, {.temperature = 1, .top_p = 0.66}, 3000).size() == 3);
  // Of the two that top-k leaves, 0.4/0.65 = 0.615 alone reaches 0.6.
  CHECK(counts(logits, {.temperature = 1, .top_k = 2, .top_p = 0.6}, 3000).size() == 1);
  CHECK(counts(logits, {.temperature = 1, .top_k = 9}, 3000).size() == 4);
}

TEST_CASE("a seed and a step name a token; others give others", "[generation]") {
  const std::vector<float> flat(256, 0.0f);
  const GenerationOptions options{.temperature = 1, .seed = 42};
  CHECK(pick_token(flat, options, 7) == pick_token(flat, options, 7));
  std::set<std::int32_t> by_step, by_seed;
  for (std::uint64_t i = 0; i < 20; ++i) {
    by_step.insert(pick_token(flat, options, i));
    by_seed.insert(pick_token(flat, {.temperature = 1, .seed = i}, 0));
  }
  CHECK(by_step.size() > 10);
  CHECK(by_seed.size() > 10);
}

TEST_CASE("what makes no sense is refused", "[generation]") {
  const std::vector<float> logits{1, 2};
  CHECK_THROWS_AS(pick_token(logits, {.temperature = -1}, 0), InputError);
  CHECK_THROWS_AS(pick_token(logits, {.temperature = NAN}, 0), InputError);
  CHECK_THROWS_AS(pick_token(logits, {.top_k = -1}, 0), InputError);
  CHECK_THROWS_AS(pick_token(logits, {.top_p = 0}, 0), InputError);
  CHECK_THROWS_AS(pick_token(logits, {.top_p = 1.5}, 0), InputError);
  CHECK_THROWS_AS(pick_token(std::vector<float>{1, NAN}, {}, 0), std::runtime_error);
  Tiny tiny;
  CHECK_THROWS_AS(tiny.generated({1, 256}, {.tokens = 1}), InputError);
  CHECK_THROWS_AS(tiny.generated({-1}, {.tokens = 1}), InputError);
}

TEST_CASE("token by token through the cache gives what reading everything at once gives", "[generation]") {
  Tiny tiny;
  for (const char* text : {"e16:2xh2f16", "e8:h1f16", "e8:h2f8,h1f16", "e16:h2f16@1"}) {
    CAPTURE(text);
    tiny.subnet = parse_subnet(text);
    const std::vector<std::int32_t> prompt{72, 105, 32};
    std::vector<std::int32_t> all = prompt;
    for (const std::int32_t token : tiny.generated(prompt, {.tokens = 6})) {
      CHECK(token == tiny.after(all));
      all.push_back(token);
    }
    CHECK(all.size() == 9);  // 3 + 6, of which the last was never read: the context of 8 is full to the brim
  }
}

TEST_CASE("a full context starts anew from its last half", "[generation]") {
  Tiny tiny;
  const std::vector<std::int32_t> prompt{1, 2, 3, 4, 5, 6, 7};
  std::vector<std::int32_t> window = prompt;  // what the network sees
  for (const std::int32_t token : tiny.generated(prompt, {.tokens = 20})) {
    if (window.size() > 8) window.erase(window.begin(), window.end() - 4);
    CHECK(token == tiny.after(window));
    window.push_back(token);
  }
}

TEST_CASE("of a prompt longer than the context the last tokens count; an empty one is a newline", "[generation]") {
  Tiny tiny;
  std::vector<std::int32_t> longer(30);
  for (int i = 0; i < 30; ++i) longer[static_cast<std::size_t>(i)] = i;
  CHECK(tiny.generated(longer, {.tokens = 10}) == tiny.generated({22, 23, 24, 25, 26, 27, 28, 29}, {.tokens = 10}));
  CHECK(tiny.generated({}, {.tokens = 5}) == tiny.generated({10}, {.tokens = 5}));
}

TEST_CASE("generation ends when it is told to", "[generation]") {
  Tiny tiny;
  CHECK(tiny.generated({65}, {.tokens = 0}).empty());
  int seen = 0;
  generate(tiny.backend, tiny.network, tiny.weights, tiny.subnet, std::vector<std::int32_t>{65}, {.tokens = 100},
           [&](std::int32_t) { return ++seen < 3; });
  CHECK(seen == 3);
}
