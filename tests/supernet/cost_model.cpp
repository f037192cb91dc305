#include "supernet/cost_model.hpp"

#include <numeric>

#include "kernels/random.hpp"
#include "supernet/network.hpp"
#include "supernet/weights.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

constexpr int kSequences = 3;

std::int64_t state_bytes(const WeightTable& table) { return 8 * table.elements() + 16 * table.band_count(); }

CostModel model_of(const SearchSpace& space, Deploy deploy = {}) { return {space, std::move(deploy), kSequences, state_bytes}; }

/// Subnets of one space, with blocks kept by @ and, where the space offers them, blocks without attention or FFN.
std::vector<Subnet> members(const SearchSpace& space, int count) {
  std::vector<Subnet> subnets = {space.smallest(), space.middle(), space.largest()};
  for (int i = 0; i < count; ++i) {
    Subnet subnet = random_subnet(space, static_cast<std::uint64_t>(i));
    if (i % 3 == 0 && subnet.depth() < space.max_depth()) {
      subnet.kept.resize(subnet.blocks.size());
      std::iota(subnet.kept.begin(), subnet.kept.end(), space.max_depth() - subnet.depth());
      subnet = space.nearest(subnet);  // the last blocks may offer other choices than the first
    }
    REQUIRE(space.contains(subnet));
    subnets.push_back(std::move(subnet));
  }
  return subnets;
}

std::vector<SearchSpace> spaces() {
  std::vector<SearchSpace> list;
  for (const char* preset : {"llama", "gpt2"}) {
    const SearchSpace space = tiny_space(preset);
    list.push_back(space);
    ModelConfig untied = space.model();
    untied.tied = false;
    untied.ffn = FeedForwardKind::gelu_erf;
    const int q = untied.queries_per_group;
    const SearchSpace::Block no_attention{{0, q, 2 * q}, {.widths = {16, 40}, .ratios = {}}},
        no_ffn{{q, 3 * q}, {.widths = {0, 16}, .ratios = {}}};
    list.push_back({untied, space.embed(), space.depth(), {no_attention, no_ffn, no_attention}});
  }
  return list;
}

/// Multiply-adds per token, mean over one full causal context, counted from the tensors themselves, token by token.
double counted_macs(const WeightTable& table, const Subnet& dense, std::int64_t context) {
  const ModelConfig& model = table.space().model();
  std::int64_t macs = 0;
  for (std::int64_t t = 1; t <= context; ++t) {
    for (const TensorSpec& tensor : table.tensors())
      if (tensor.role == Role::matrix || tensor.role == Role::residual_out) macs += tensor.rows * tensor.columns;
    macs += static_cast<std::int64_t>(model.vocabulary) * dense.embed;                          // the head
    for (const BlockGenes& genes : dense.blocks) macs += 2 * t * genes.heads * model.head_dim;  // scores and mixing with t keys
  }
  return static_cast<double>(macs) / static_cast<double>(context);
}

}  // namespace

TEST_CASE("parameters and FLOPs of GPT-2 sizes", "[supernet][cost]") {
  for (const auto& expected : vector("param_count")["expected"]) {
    const int V = expected["V"], T = expected["T"], d = expected["d"], L = expected["L"];
    CAPTURE(V, T, d, L);
    ModelConfig model = preset_model("gpt2");
    model.vocabulary = V;
    model.context = T;
    model.head_dim = 32;
    const SearchSpace space(model, {d}, {L},
                            std::vector<SearchSpace::Block>(static_cast<std::size_t>(L), {{d / 32}, {.widths = {4 * d}, .ratios = {}}}));
    const Costs costs = model_of(space).of(space.largest());
    CHECK(costs.parameters == expected["params"].get<std::int64_t>());
    // The vector counts all T keys for every token, we the (T+1)/2 that causality leaves.
    CHECK(2 * costs.macs + 2 * std::int64_t{L} * d * (T - 1) == expected["fwd_flops_per_token"].get<std::int64_t>());
  }
}

TEST_CASE("costs are those of the extracted network", "[supernet][cost]") {
  for (const SearchSpace& space : spaces()) {
    const CostModel costs = model_of(space);
    const Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
    for (const Subnet& subnet : members(space, 50)) {
      CAPTURE(space.text(), format(subnet));
      const Weights dense = extract(weights, subnet);
      std::int64_t scalars = 0, outside = 0;
      for (const TensorSpec& tensor : dense.table().tensors()) {
        scalars += tensor.rows * tensor.columns;
        if (tensor.block < 0) outside += tensor.rows * tensor.columns;
      }
      const Costs found = costs.of(subnet);
      REQUIRE(found.parameters == scalars);
      REQUIRE(found.block_parameters == scalars - outside);
      const Subnet whole = dense.table().space().largest();
      REQUIRE(static_cast<double>(found.macs) == counted_macs(dense.table(), whole, space.model().context));
    }
  }
}

TEST_CASE("costs are the frame's and the blocks' added up, linear in heads and FFN width", "[supernet][cost]") {
  for (const SearchSpace& space : spaces()) {
    const CostModel costs = model_of(space);
    for (const Subnet& subnet : members(space, 50)) {
      AdditiveCosts sum = costs.frame(subnet.embed);
      CHECK(sum.block_parameters == 0);
      for (const BlockGenes& genes : subnet.blocks) {
        const AdditiveCosts block = costs.block(subnet.embed, genes);
        CHECK(block.parameters == block.block_parameters);
        sum.parameters += block.parameters;
        sum.block_parameters += block.block_parameters;
        sum.macs += block.macs;
      }
      const Costs whole = costs.of(subnet);
      REQUIRE(sum.parameters == whole.parameters);
      REQUIRE(sum.block_parameters == whole.block_parameters);
      REQUIRE(sum.macs == whole.macs);
    }
    const int q = space.model().queries_per_group;
    const auto block = [&](int groups, int ffn) { return costs.block(16, {.heads = groups * q, .groups = groups, .ffn = ffn}); };
    const auto slope = [&](std::int64_t AdditiveCosts::*cost, int groups, int ffn, int more_groups, int more_ffn) {
      return block(groups + more_groups, ffn + more_ffn).*cost - block(groups, ffn).*cost;
    };
    for (const auto cost : {&AdditiveCosts::parameters, &AdditiveCosts::block_parameters, &AdditiveCosts::macs}) {
      CHECK(slope(cost, 1, 8, 1, 0) == slope(cost, 5, 64, 1, 0));
      CHECK(slope(cost, 1, 8, 0, 8) == slope(cost, 5, 64, 0, 8));
      CHECK(slope(cost, 1, 8, 1, 0) > 0);
    }
  }
}

TEST_CASE("bytes are weights, optimizer state and what the network's plans say", "[supernet][cost]") {
  const Deploy deploy{.dtype = "f32", .batch = 2, .context = 8, .phase = GENERATE("decode", "prefill"), .threads = 3};
  for (const SearchSpace& space : spaces()) {
    const Network network(space, DType::float32);
    const CostModel costs = model_of(space, deploy);
    const BackendTraits traits = traits_of(Precision::f32, 3);
    for (const Subnet& subnet : members(space, 10)) {
      CAPTURE(space.text(), format(subnet), deploy.phase);
      const WeightTable table(SearchSpace::of(space.model(), subnet));
      const std::int64_t weights = table.elements() * 4;
      const Costs found = costs.of(subnet);
      const std::int64_t logits = Arena::bytes_for(1, space.model().vocabulary, DType::float32);
      REQUIRE(found.inference_bytes == weights + 2 * (network.plan_cache(subnet, 8) + network.plan_decode(traits, subnet, 8, 1) + logits));
      REQUIRE(found.training_bytes ==
              2 * weights + state_bytes(table) + network.plan_training(traits, subnet, {kSequences, space.model().context}).arena_bytes);
    }
  }
}

TEST_CASE("the deployed context changes attention and nothing else of macs", "[supernet][cost]") {
  const SearchSpace space = tiny_space("llama");
  const Subnet subnet = space.largest();
  const auto macs = [&](int context) {
    return model_of(space, {.dtype = "f32", .batch = 1, .context = context, .phase = "decode", .threads = 1}).of(subnet).macs;
  };
  std::int64_t channels = 0;
  for (const BlockGenes& genes : subnet.blocks) channels += genes.heads * space.model().head_dim;
  CHECK(macs(20) - macs(10) == 10 * channels);
  CHECK(macs(0) == macs(space.model().context));
  CHECK(model_of(space).deploy().context == space.model().context);
}

}  // namespace elastiform
