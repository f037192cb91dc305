#include "supernet/residual_rules/residual_rule.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "supernet/network.hpp"
#include "supernet/residual_rules/rules.hpp"
#include "supernet/skip_profile.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tolerances.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

Pass run(const SearchSpace& space, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch,
         std::int64_t limit = kNoLimit) {
  return training_pass(Network(space, backend.dtype()), backend, weights, subnet, batch, {.limit = limit, .hidden = true});
}

void check_gradients(const SearchSpace& space, const Subnet& subnet) {
  ReferenceBackend backend;
  Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = random_batch(space, 2, 7, 3);
  const Pass pass = run(space, backend, weights, subnet, batch);
  const auto loss = [&] { return run(space, backend, weights, subnet, batch).report.label_loss; };
  check_differences(weights, pass.gradients, subnet, loss);
}

Weights initialized(const SearchSpace& space, DType dtype, std::uint64_t seed = 1) {
  Weights weights(std::make_shared<const WeightTable>(space), dtype);
  initialize(weights, seed);
  return weights;
}

double deviation_of(const Weights& weights, const std::string& name) {
  const ConstView view = weights.view(name);
  double squares = 0;
  for (std::int64_t row = 0; row < view.rows; ++row)
    for (std::int64_t c = 0; c < view.columns; ++c) squares += std::pow(view.row<double>(row)[c], 2);
  return std::sqrt(squares / static_cast<double>(view.size()));
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

double norm_of(const Weights& gradients, std::string_view name) {
  ReferenceBackend backend;
  return std::sqrt(backend.sum_squares(gradients.view(name)));
}

/// A space of equal blocks, wide enough for statistics.
SearchSpace deep_space(ResidualRule rule, int blocks, FeedForwardKind ffn = FeedForwardKind::gelu_tanh) {
  return equal_blocks(rule, blocks, 32, 4, 64, ffn);
}

}  // namespace

TEST_CASE("gradients of every residual rule agree with finite differences in float64", "[supernet][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  const std::string preset = GENERATE("llama", "gpt2");
  CAPTURE(residual_rule(rule).name, preset);
  const SearchSpace space = with_residual(tiny_space(preset), rule);
  check_gradients(space, space.middle());
  const Subnet parts{.embed = 16, .blocks = {{0, 0, 16}, preset == "llama" ? BlockGenes{4, 2, 0} : BlockGenes{2, 2, 0}}, .kept = {0, 2}};
  check_gradients(space, parts);  // blocks without attention or feed-forward network, and kept ones
}

TEST_CASE("the CPU agrees with float64 on every residual rule, and every plan has the same bits", "[supernet][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  const std::string preset = GENERATE("llama", "gpt2");
  CAPTURE(residual_rule(rule).name, preset);
  const SearchSpace space = with_residual(tiny_space(preset), rule);
  const ThreadPool pool(2);
  CpuBackend cpu(pool);
  ReferenceBackend reference;
  const Subnet subnet = space.largest();
  const Batch batch = random_batch(space, 15, 20, 3);  // two panels
  const Weights weights = random_weights(space, DType::float32, 5);
  const Pass whole = run(space, cpu, weights, subnet, batch);
  const Pass judge = run(space, reference, random_weights(space, DType::float64, 5), subnet, batch);
  CHECK(whole.report.label_loss == Approx(judge.report.label_loss).epsilon(tolerance("network loss", DType::float32).relative * 4));
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const double expected = norm_of(judge.gradients, tensor.name), found = std::sqrt(cpu.sum_squares(whole.gradients.view(tensor)));
    CAPTURE(tensor.name);
    CHECK(found == Approx(expected).epsilon(1e-3).margin(1e-6));
  }
  const Pass again = run(space, cpu, weights, subnet, batch, 0);  // what can be dropped is computed again
  CHECK(again.hidden == whole.hidden);
  CHECK(weights_hash(again.gradients) == weights_hash(whole.gradients));
}

TEST_CASE("generation with every residual rule says what training's forward pass says", "[supernet][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  CAPTURE(residual_rule(rule).name);
  const SearchSpace space = with_residual(tiny_space("llama"), rule);
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  const Weights weights = random_weights(space, DType::float64, 5);
  const Subnet subnet = space.middle();
  const Batch batch = random_batch(space, 1, 9, 3);
  const Pass pass = run(space, backend, weights, subnet, batch);
  const std::int64_t V = space.model().vocabulary;
  Arena arena(network.plan_cache(subnet, 9) + network.plan_decode(backend.traits(), subnet, 9, 9) + Arena::bytes_for(9, V, DType::float64));
  KeyValueCache cache = network.make_cache(subnet, 9, arena);
  const View logits = arena.matrix(9, V, DType::float64);
  network.decode(backend, weights, subnet, std::span(batch.inputs).first(4), cache, logits.row_range(0, 4), arena);
  network.decode(backend, weights, subnet, std::span(batch.inputs).subspan(4), cache, logits.row_range(4, 5), arena);
  const ConstView table = weights.view(space.model().tied ? "embedding.token" : "head");
  for (std::int64_t row = 0; row < 9; ++row)
    for (std::int64_t v = 0; v < V; ++v) {
      double sum = 0;
      for (int c = 0; c < subnet.embed; ++c) sum += pass.hidden[static_cast<std::size_t>(row * subnet.embed + c)] * table.row<double>(v)[c];
      REQUIRE(logits.row<double>(row)[v] == Approx(sum).epsilon(1e-9).margin(1e-9));
    }
}

TEST_CASE("constants of depth", "[supernet][residual]") {
  const auto cases = vector("depth_init");
  const Tolerance allowed = tolerance("exact", DType::float64);
  for (const auto& expected : cases["expected"]) {
    const int N = expected["N"];
    CAPTURE(N);
    const auto check = [&](double found, const char* name) {
      CAPTURE(name);
      CHECK(found == Approx(expected[name].get<double>()).epsilon(allowed.relative));
    };
    check(residual_rule(ResidualRule::deepnorm).constants(N).skip_scale, "deepnorm_alpha");
    check(residual_rule(ResidualRule::branch_scale).constants(N).branch_scale, "gpt2_residual_proj");
    // What a rule makes of Xavier's deviation of the value projection.
    const auto factor = [&](ResidualRule rule) {
      const SearchSpace space = deep_space(rule, N);
      const WeightTable table(space);
      const TensorSpec& value = table.at("block.0.attention.value");
      return residual_rule(rule).start(value, space).deviation / xavier_start(value).deviation;
    };
    check(factor(ResidualRule::deepnorm), "deepnorm_beta");
    check(factor(ResidualRule::t_fixup), "tfixup_encoder");  // (9N)^-1/4, tfixup_decoder, is for blocks with cross-attention
    check(factor(ResidualRule::fixup), "fixup_m2");
    const SearchSpace skip = deep_space(ResidualRule::skipinit, N);
    check(residual_rule(ResidualRule::skipinit).start(WeightTable(skip).at("block.0.ffn.residual.gate"), skip).mean, "skipinit_alpha");
  }
}

TEST_CASE("without a rule's own, first values are Xavier's or GPT-2's", "[supernet][residual]") {
  const SearchSpace space = deep_space(ResidualRule::branch_scale, 4);
  const auto table = std::make_shared<const WeightTable>(space);
  for (const InitEntry& entry : inits()) {
    Weights weights(table, DType::float64);
    initialize(weights, 3, nullptr, entry.init);
    for (const char* name : {"embedding.token", "block.1.attention.query", "block.1.attention.out", "block.1.ffn.down"}) {
      CAPTURE(entry.name, name);
      const TensorSpec& tensor = table->at(name);
      const double in = static_cast<double>(tensor.rows), out = static_cast<double>(tensor.columns);
      const double expected = entry.init == Init::gpt2         ? 0.02
                              : tensor.role == Role::embedding ? 1 / std::sqrt(out)
                                                               : std::sqrt(2 / (in + out));
      CHECK(deviation_of(weights, name) == Approx(expected).epsilon(0.15));
    }
  }
}

TEST_CASE("first values follow the rule", "[supernet][residual]") {
  const Weights fixup = initialized(deep_space(ResidualRule::fixup, 8, FeedForwardKind::swiglu), DType::float64);
  CHECK(deviation_of(fixup, "block.3.attention.out") == 0);
  CHECK(deviation_of(fixup, "block.3.ffn.down") == 0);
  CHECK(deviation_of(fixup, "head") == 0);
  CHECK(deviation_of(fixup, "block.3.ffn.residual.gate") == 1);
  CHECK(deviation_of(fixup, "block.3.ffn.residual.activation") == 0);
  // Gate times up: their product has 16 branches' 16^-1/2.
  CHECK(deviation_of(fixup, "block.3.ffn.gate") == Approx(std::sqrt(2.0 / 96) * std::pow(16, -0.25)).epsilon(0.05));
  CHECK(deviation_of(fixup, "block.3.attention.query") == Approx(std::sqrt(2.0 / 64)).epsilon(0.1));
  CHECK(deviation_of(initialized(deep_space(ResidualRule::layerscale, 18), DType::float64), "block.0.ffn.residual.gate") == Approx(0.1));
  CHECK(deviation_of(initialized(deep_space(ResidualRule::layerscale, 20), DType::float64), "block.0.ffn.residual.gate") == Approx(1e-5));
  CHECK(deviation_of(initialized(deep_space(ResidualRule::layerscale, 30), DType::float64), "block.0.ffn.residual.gate") == Approx(1e-6));
  CHECK(deviation_of(initialized(deep_space(ResidualRule::rezero, 4), DType::float64), "block.0.residual.gate") == 0);
  CHECK_FALSE(WeightTable(deep_space(ResidualRule::rezero, 4)).has("final.norm.gain"));
  CHECK_FALSE(WeightTable(deep_space(ResidualRule::t_fixup, 4)).has("block.0.ffn.norm.gain"));
  CHECK(WeightTable(deep_space(ResidualRule::fixup, 4)).at("block.0.attention.residual.input").rate == 0.1);
  CHECK(WeightTable(deep_space(ResidualRule::fixup, 4)).at("block.0.attention.value").rate == 1);
}

TEST_CASE("fixup's blocks are the identity at first, and zero-gated rules are one function at every depth", "[supernet][residual]") {
  const ResidualRule rule = GENERATE(ResidualRule::fixup, ResidualRule::rezero);
  CAPTURE(residual_rule(rule).name);
  const SearchSpace space = with_residual(tiny_space("llama"), rule);
  ReferenceBackend backend;
  Weights weights = initialized(space, DType::float64);
  const Batch batch = random_batch(space, 2, 7, 3);
  Subnet subnet = space.largest();
  const Pass deepest = run(space, backend, weights, subnet, batch);
  const ConstView table = weights.view("embedding.token");
  for (std::int64_t row = 0; row < batch.rows(); ++row)  // of all blocks: the stream is still the embedding
    for (int c = 0; c < subnet.embed; ++c)
      REQUIRE(deepest.hidden[static_cast<std::size_t>(row * subnet.embed + c)] ==
              table.row<double>(batch.inputs[static_cast<std::size_t>(row)])[c]);
  while (subnet.depth() > 1) {
    subnet.blocks.pop_back();
    const Pass pass = run(space, backend, weights, subnet, batch);
    CHECK(pass.hidden == deepest.hidden);
    CHECK(pass.report.label_loss == deepest.report.label_loss);
  }
}

TEST_CASE("a gate of zero gives its branch no gradient, and has one itself", "[supernet][residual]") {
  const SearchSpace space = with_residual(tiny_space("llama"), ResidualRule::rezero);
  ReferenceBackend backend;
  const Weights weights = initialized(space, DType::float64);
  const Pass pass = run(space, backend, weights, space.largest(), random_batch(space, 2, 7, 3));
  for (const TensorSpec& tensor : weights.table().tensors()) {
    CAPTURE(tensor.name);
    if (tensor.block < 0) continue;
    if (tensor.role == Role::gate) CHECK(pass.gradients.view(tensor).row<double>(0)[0] != 0);
    else CHECK(norm_of(pass.gradients, tensor.name) == 0);
  }
}

TEST_CASE("deepnorm scales the skip, not the branch", "[supernet][residual]") {
  SearchSpace space = with_residual(tiny_space("gpt2"), ResidualRule::deepnorm);
  ModelConfig model = space.model();
  CHECK(model.skip_scale == Approx(std::pow(6.0, 0.25)));
  ReferenceBackend backend;
  const Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = random_batch(space, 2, 7, 3);
  const Subnet subnet = space.largest();
  // norm(α x + F(x)) is norm(x + F(x) / α), eps / α² instead of eps: folding 1/α into the branch's last weights says the same, and
  // folding α does not.
  const auto scaled = [&](double factor) {
    ModelConfig plain = model;
    plain.skip_scale = 1;
    plain.norm_eps = model.norm_eps / (model.skip_scale * model.skip_scale);
    const SearchSpace other(plain, space.embed(), space.depth(), space.blocks());
    Weights moved = random_weights(other, DType::float64, 5);
    for (const TensorSpec& tensor : moved.table().tensors()) {
      const bool last = tensor.name.ends_with(".out") || tensor.name.ends_with(".down") || tensor.name.ends_with(".out.bias") ||
                        tensor.name.ends_with(".down.bias");
      if (last) backend.scale(moved.view(tensor), factor);
    }
    return run(other, backend, moved, subnet, batch).hidden;
  };
  const Pass pass = run(space, backend, weights, subnet, batch);
  CHECK(largest_difference(pass.hidden, scaled(1 / model.skip_scale)) < 1e-9);
  CHECK(largest_difference(pass.hidden, scaled(model.skip_scale)) > 0.1);
}

TEST_CASE("gradients of the first and the last of 24 blocks are of one size at first", "[supernet][residual]") {
  const ResidualRule rule = GENERATE(ResidualRule::branch_scale, ResidualRule::branch_scale_by_depth, ResidualRule::layerscale,
                                     ResidualRule::skipinit, ResidualRule::t_fixup, ResidualRule::deepnorm, ResidualRule::admin);
  CAPTURE(residual_rule(rule).name);
  const SearchSpace space = deep_space(rule, 24);
  ReferenceBackend backend;
  Weights weights = initialized(space, DType::float64);
  const Batch batch = random_batch(space, 2, 16, 3);
  if (residual_rule(rule).profiled) {
    const Network network(space, DType::float64);
    Arena arena(network.plan_branch_variances(backend.traits(), space.largest(), batch.sequences, batch.tokens));
    profile_skip_gains(network, backend, weights, batch, arena);
  }
  const Pass pass = run(space, backend, weights, space.largest(), batch);
  for (const char* part : {".attention.out", ".ffn.down"}) {
    const double ratio = norm_of(pass.gradients, "block.0" + std::string(part)) / norm_of(pass.gradients, "block.23" + std::string(part));
    CAPTURE(part, ratio);
    CHECK(ratio < 10);
    CHECK(ratio > 0.1);
  }
}

TEST_CASE("admin's skip gains are the roots of the variance that the branches before have", "[supernet][residual]") {
  const SearchSpace space = deep_space(ResidualRule::admin, 6);
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = initialized(space, DType::float64);
  const Batch batch = random_batch(space, 2, 16, 3);
  Arena arena(network.plan_branch_variances(backend.traits(), space.largest(), batch.sequences, batch.tokens));
  const std::vector<double> variances = network.branch_variances(backend, weights, space.largest(), batch, arena);
  CHECK(arena.peak() == arena.capacity());  // planned == used, to the byte
  CHECK(arena.used() == 0);
  REQUIRE(variances.size() == 12);
  for (const double variance : variances) CHECK(variance > 0);
  profile_skip_gains(network, backend, weights, batch, arena);
  double sum = 1;
  for (std::size_t i = 0; i < variances.size(); ++i) {
    const std::string name = "block." + std::to_string(i / 2) + (i % 2 == 0 ? ".attention" : ".ffn") + ".residual.skip";
    CHECK(deviation_of(weights, name) == Approx(std::sqrt(sum)).epsilon(1e-12));
    sum += variances[i];
  }
  // Measured with the gains that it sets, the branches are others: the measurement is of ω = 1, and taken once.
  CHECK(network.branch_variances(backend, weights, space.largest(), batch, arena) != variances);
}

TEST_CASE("one step of fixup moves the function by the same at any depth, without its scales by more with each block",
          "[supernet][residual]") {
  const FeedForwardKind kind = GENERATE(FeedForwardKind::gelu_tanh, FeedForwardKind::swiglu);
  // Branches beyond attention: their last layers, zero at first, are what a first step moves; a head that is not zero sees it.
  const auto moved = [&](int blocks, bool scaled) {
    const SearchSpace space = equal_blocks(ResidualRule::fixup, blocks, 16, 4, 32, kind);
    ReferenceBackend backend;
    Weights weights = initialized(space, DType::float64);
    const Weights unscaled = initialized(equal_blocks(ResidualRule::rezero, blocks, 16, 4, 32, kind, false), DType::float64);
    for (const TensorSpec& tensor : weights.table().tensors()) {
      const bool head = tensor.name == "head";
      if (head || (!scaled && tensor.role == Role::matrix)) backend.copy(weights.view(tensor), unscaled.view(tensor.name));
    }
    const Batch batch = random_batch(space, 2, 12, 3);
    const Pass before = run(space, backend, weights, space.largest(), batch);
    for (const TensorSpec& tensor : weights.table().tensors()) {
      if (tensor.block < 0) continue;
      const View w = weights.view(tensor);
      const ConstView g = before.gradients.view(tensor);
      for (std::int64_t row = 0; row < w.rows; ++row)
        for (std::int64_t c = 0; c < w.columns; ++c) w.row<double>(row)[c] -= 0.01 * tensor.rate * g.row<double>(row)[c];
    }
    const Pass after = run(space, backend, weights, space.largest(), batch);
    double squares = 0;
    for (std::size_t i = 0; i < before.hidden.size(); ++i) squares += std::pow(after.hidden[i] - before.hidden[i], 2);
    return std::sqrt(squares);
  };
  const double first = moved(1, true);
  for (const int blocks : {4, 32}) {  // L = 2, 8, 64 branches
    CAPTURE(blocks);
    CHECK(moved(blocks, true) / first < 2);
    CHECK(moved(blocks, true) / first > 0.5);
  }
  CHECK(moved(32, false) / moved(1, false) > 8);
}

TEST_CASE("spaces write the rule only where it is not the default, and read it again", "[supernet][residual]") {
  const SearchSpace plain = tiny_space("llama");
  CHECK(plain.text().find("residual") == std::string::npos);
  CHECK(plain.text().find("skip_scale") == std::string::npos);
  for (const ResidualRule rule : every_residual_rule()) {
    const SearchSpace space = with_residual(plain, rule);
    CHECK(SearchSpace::parse(space.text(), "test") == space);
    if (rule != ResidualRule::branch_scale) CHECK(space.hash() != plain.hash());
  }
  std::string text = with_residual(plain, ResidualRule::rezero).text();
  text.replace(text.find("rezero"), 6, "rezeor");
  CHECK_THROWS_WITH(SearchSpace::parse(text, "run.h5"), Catch::Contains("run.h5") && Catch::Contains("rezero"));
}

TEST_CASE("models that a rule cannot have are refused", "[supernet][residual]") {
  const SearchSpace space = tiny_space("llama");
  ModelConfig model = space.model();
  model.branch_scale = 1;
  model.residual = ResidualRule::fixup;
  const auto made = [&] { return SearchSpace(model, space.embed(), space.depth(), space.blocks()); };
  CHECK_THROWS_WITH(made(), Catch::Contains("tied") && Catch::Contains("fixup"));
  model.tied = false;
  CHECK_NOTHROW(made());
  model.branch_scale = 0.5;
  CHECK_THROWS_WITH(made(), Catch::Contains("branch_scale") && Catch::Contains("fixup"));
  model.branch_scale = 1;
  model.skip_scale = 2;
  CHECK_THROWS_WITH(made(), Catch::Contains("skip_scale"));
}

}  // namespace elastiform
