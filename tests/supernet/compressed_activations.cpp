#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/activation_plan.hpp"
#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/network.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/spaces.hpp"

namespace elastiform {
namespace {

/// So wide that a product costs more than to compress what it computes: else plans do the product again.
SearchSpace wide_space(const std::string& preset) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 61;
  model.context = 24;
  model.head_dim = 32;
  const SearchSpace::Block block{{4, 8}, {.widths = {}, .ratios = {2, 4}}};
  return SearchSpace(model, {192, 256}, {1, 2}, {block, block});
}

/// A network with weights and a batch, of which gradients are asked under plans and seeds.
struct Setting {
  SearchSpace space;
  ThreadPool pool;
  CpuBackend backend;
  Network network;
  Weights weights;
  Batch batch;

  Setting(const SearchSpace& of, std::int64_t sequences, std::int64_t tokens, int threads, Precision precision = Precision::f32)
      : space(of), pool(threads), backend(pool, precision), network(space, DType::float32),
        weights(random_weights(space, DType::float32, 11)), batch(random_batch(space, sequences, tokens, 8)) {}

  PassShape shape() const { return {batch.sequences, batch.tokens}; }

  LossReport run(const Subnet& subnet, const ActivationPlan& plan, Weights& gradients, std::uint64_t seed) {
    Arena arena(plan.arena_bytes + 4096);
    const View all = arena.matrix(1, arena.capacity() / 4, DType::float32);
    std::memset(all.data, 0xFF, static_cast<std::size_t>(arena.capacity()));  // whoever reads what was compressed finds NaN
    arena.release(0);
    arena.reset_peak();
    const LossReport report =
        network.forward_backward(backend, weights, gradients, subnet, batch, {.noise = {.seed = seed, .step = 3}}, {}, {}, plan, arena);
    if (plan.planned_bytes > 0) CHECK(arena.peak() == plan.arena_bytes);  // 0: made by hand
    CHECK(arena.used() == 0);
    return report;
  }

  /// Every element of the gradient, one after the other.
  std::vector<float> gradient(const Subnet& subnet, const ActivationPlan& plan, std::uint64_t seed, LossReport* report = nullptr) {
    Weights gradients(weights.shared_table(), DType::float32);
    const LossReport got = run(subnet, plan, gradients, seed);
    if (report) *report = got;
    std::vector<float> values;
    for (const TensorSpec& tensor : gradients.table().tensors())
      for (std::int64_t row = 0; row < tensor.rows; ++row) {
        const float* x = gradients.view(tensor).row<float>(row);
        values.insert(values.end(), x, x + tensor.columns);
      }
    return values;
  }

  /// Everything kept, what backward is linear in with that many bits.
  ActivationPlan linear_only(const Subnet& subnet, int bits) {
    ActivationPlan plan = network.plan_training(backend.traits(), subnet, shape());
    for (std::size_t i = 0; i < plan.blocks.size(); ++i) {
      const BlockGenes& genes = subnet.blocks[i];
      const BlockShape block{.batch = batch.sequences,
                             .tokens = batch.tokens,
                             .embed = subnet.embed,
                             .heads = genes.heads,
                             .groups = genes.groups,
                             .ffn = genes.ffn};
      const auto set = [&](const LayerTensors& layer, LayerPlan& of) {
        for (std::size_t id = 0; id < layer.kept.size(); ++id)
          if (layer.kept[id].least_bits == 2) of.bits.set(static_cast<int>(id), bits);
      };
      set(Attention::tensors(space.model(), block, backend.traits()), plan.blocks[i].attention);
      set(FeedForward::tensors(space.model(), block, backend.traits()), plan.blocks[i].feed_forward);
    }
    plan.arena_bytes *= 2;  // more than it takes
    plan.planned_bytes = 0;
    return plan;
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Mean and variance over seeds of each element.
struct Moments {
  std::vector<double> mean, variance;
};
Moments moments(Setting& s, const Subnet& subnet, const ActivationPlan& plan, int seeds) {
  Moments m;
  std::vector<double> squares;
  for (int seed = 0; seed < seeds; ++seed) {
    const std::vector<float> g = s.gradient(subnet, plan, static_cast<std::uint64_t>(seed));
    m.mean.resize(g.size(), 0), squares.resize(g.size(), 0);
    for (std::size_t i = 0; i < g.size(); ++i) m.mean[i] += g[i], squares[i] += static_cast<double>(g[i]) * g[i];
  }
  for (std::size_t i = 0; i < m.mean.size(); ++i) {
    m.mean[i] /= seeds;
    m.variance.push_back(std::max(0.0, squares[i] / seeds - m.mean[i] * m.mean[i]) * seeds / (seeds - 1));
  }
  return m;
}

double total(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

const std::map<std::string, ActivationChoices> kChoices{
    {"8bit", {.bits = 8}}, {"4bit", {.bits = 4}}, {"2bit", {.bits = 2}}, {"auto", {.bits = 2, .allocates = true}}};

}  // namespace

TEST_CASE("compressed passes have the losses of exact ones, and take the bytes that are planned", "[supernet][memory][compression]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const Precision precision = GENERATE(from_range(precisions_here()));
  Setting s(wide_space(preset), 14, 23, 2, precision);  // 322 rows: a whole panel and a short one
  int compressed = 0, dropped = 0, mixed = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const Subnet subnet = random_subnet(s.space, i);
    LossReport exact;
    const ActivationPlan all = s.network.plan_training(s.backend.traits(), subnet, s.shape());
    s.gradient(subnet, all, 0, &exact);
    for (const auto& [name, choices] : kChoices) {
      const std::int64_t most = all.planned_bytes;
      const std::int64_t least = s.network.plan_training(s.backend.traits(), subnet, s.shape(), 0, choices).planned_bytes;
      REQUIRE(least < s.network.plan_training(s.backend.traits(), subnet, s.shape(), 0).arena_bytes + 1);
      for (int step = 0; step < 4; ++step) {
        const std::int64_t limit = least + (most - 1 - least) * step / 3;
        const ActivationPlan plan = s.network.plan_training(s.backend.traits(), subnet, s.shape(), limit, choices);
        CAPTURE(preset, name_of(precision), name, format(subnet), limit);
        REQUIRE(plan.planned_bytes <= limit);
        LossReport report;
        s.gradient(subnet, plan, i, &report);
        REQUIRE(report.label_loss == exact.label_loss);
        for (const BlockPlan& block : plan.blocks) {
          const bool packs = !block.attention.bits.empty() || !block.feed_forward.bits.empty();
          const bool drops = !block.attention.dropped.empty() || !block.feed_forward.dropped.empty();
          compressed += packs ? 1 : 0, dropped += drops ? 1 : 0, mixed += packs && drops ? 1 : 0;
        }
      }
    }
  }
  CHECK(dropped > 10);
  if (precision == Precision::bf16) return;  // beside its fast products compression pays in wider networks only
  CHECK(compressed > 5);
  CHECK(mixed > 2);
}

TEST_CASE("what backward is not linear in keeps 8 bits, and statistics stay as they are", "[supernet][memory][compression]") {
  const std::string preset = GENERATE("llama", "gpt2");
  Setting s(wide_space(preset), 4, 23, 1);
  std::set<int> bits;
  for (const auto& [name, choices] : kChoices) {
    const Subnet subnet = s.space.largest();
    const std::int64_t least = s.network.plan_training(s.backend.traits(), subnet, s.shape(), 0, choices).planned_bytes;
    const ActivationPlan plan = s.network.plan_training(s.backend.traits(), subnet, s.shape(), least * 3 / 2, choices);
    for (const BlockPlan& block : plan.blocks) {
      for (const int id : {Attention::kQuery, Attention::kKey})
        CHECK((block.attention.bits.of(id) == 0 || block.attention.bits.of(id) == 8));
      for (const int id : {Attention::kRstd, Attention::kMean, Attention::kLogSumExp}) CHECK(block.attention.bits.of(id) == 0);
      const int slope = preset == "gpt2" ? FeedForward::kUp : FeedForward::kGate;
      CHECK((block.feed_forward.bits.of(slope) == 0 || block.feed_forward.bits.of(slope) == 8));
      for (int id = 0; id < 8; ++id) bits.insert(block.attention.bits.of(id));
    }
  }
  CHECK(bits.size() > 2);
}

TEST_CASE("gradients of compressed passes depend on the seed and on nothing else", "[supernet][compression][bits]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const std::string name = GENERATE("4bit", "auto");
  const ActivationChoices choices = kChoices.at(name);
  const SearchSpace space = wide_space(preset);
  Setting one(space, 14, 23, 1), two(space, 14, 23, 2), five(space, 14, 23, 5);
  for (const Subnet& subnet : {one.space.largest(), one.space.middle()}) {
    const ActivationPlan least = one.network.plan_training(one.backend.traits(), subnet, one.shape(), 0, choices);
    const ActivationPlan all = one.network.plan_training(one.backend.traits(), subnet, one.shape());
    std::int64_t limit = least.planned_bytes;  // the lowest under which something is compressed
    const auto compresses = [](const ActivationPlan& plan) {
      return std::any_of(plan.blocks.begin(), plan.blocks.end(),
                         [](const BlockPlan& block) { return !block.attention.bits.empty() || !block.feed_forward.bits.empty(); });
    };
    const std::int64_t step = (all.planned_bytes - least.planned_bytes) / 50;
    while (limit < all.planned_bytes && !compresses(one.network.plan_training(one.backend.traits(), subnet, one.shape(), limit, choices)))
      limit += step;
    const auto plan = [&](Setting& s) { return s.network.plan_training(s.backend.traits(), subnet, s.shape(), limit, choices); };
    CHECK(plan(five).blocks == plan(one).blocks);
    CHECK(plan(five).arena_bytes <=
          limit + further_workers_bytes(five.space.model(), five.backend.traits(), five.space.largest(), five.shape()));
    const std::vector<float> expected = one.gradient(subnet, plan(one), 7);
    CHECK(same(two.gradient(subnet, plan(two), 7), expected));
    CHECK(same(five.gradient(subnet, plan(five), 7), expected));
    CHECK_FALSE(same(one.gradient(subnet, plan(one), 8), expected));
    CHECK_FALSE(same(one.gradient(subnet, all, 7), expected));
  }
}

TEST_CASE("gradients of compressed passes are unbiased, and their variance falls with the bits", "[supernet][compression][statistics]") {
  const std::string preset = GENERATE("llama", "gpt2");
  Setting s(tiny_space(preset), 2, 9, 1);
  const Subnet subnet = s.space.middle();
  const std::vector<float> exact = s.gradient(subnet, s.network.plan_training(s.backend.traits(), subnet, s.shape()), 0);
  std::map<int, double> variance;
  for (const int bits : {2, 4, 8}) {
    constexpr int kSeeds = 1000;
    const Moments m = moments(s, subnet, s.linear_only(subnet, bits), kSeeds);
    variance[bits] = total(m.variance);
    double squares = 0;
    int noisy = 0, beyond = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double sigma = std::sqrt(m.variance[i] / kSeeds), error = std::abs(m.mean[i] - exact[i]);
      const double rounding = 1e-5 * std::abs(static_cast<double>(exact[i])) + 1e-7;
      if (sigma < rounding) {
        REQUIRE(error <= 4 * rounding);
        continue;
      }
      ++noisy;
      squares += error * error / (sigma * sigma);
      beyond += error > 4 * sigma ? 1 : 0;
    }
    CAPTURE(preset, bits, noisy, beyond);
    if (bits == 8) continue;  // its noise is hardly more than float32's rounding
    CHECK(noisy > 500);
    CHECK(beyond <= 1 + noisy / 2000);  // of a normal distribution one in 16000 is
    CHECK(squares / noisy < 1.25);      // a bias would add to it
  }
  // (2^b - 1)² steps: 25 times from 2 bits to 4, 289 times from 4 to 8: four times a bit, and a little more.
  CHECK(variance[2] / variance[4] == Approx(25).epsilon(0.4));
  CHECK(variance[4] / variance[8] == Approx(289).epsilon(0.4));
}

}  // namespace elastiform
