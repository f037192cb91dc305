#include "tests/support/residual.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/arena.hpp"
#include "supernet/initialization.hpp"
#include "supernet/network.hpp"

namespace elastiform {

std::vector<ResidualRule> every_residual_rule() {
  std::vector<ResidualRule> rules;
  for (const ResidualRuleEntry* entry : residual_rules()) rules.push_back(entry->rule);
  return rules;
}

SearchSpace with_residual(const SearchSpace& space, ResidualRule rule) {
  ModelConfig model = space.model();
  const ResidualConstants constants = residual_rule(rule).constants(space.max_depth());
  model.residual = rule;
  model.branch_scale = constants.branch_scale;
  model.skip_scale = constants.skip_scale;
  if (residual_rule(rule).zero_head) model.tied = false;
  return {model, space.embed(), space.depth(), space.blocks()};
}

SearchSpace equal_blocks_of_depths(ResidualRule rule, const std::vector<int>& depths, int embed, int heads, int ffn, FeedForwardKind kind,
                                   bool tied) {
  ModelConfig model = preset_model("gpt2");
  model.vocabulary = 151;
  model.context = 24;
  model.head_dim = 8;
  model.biases = false;
  model.ffn = kind;
  model.tied = tied;
  const SearchSpace::Block block{{heads}, {.widths = {ffn}, .ratios = {}}};
  const int blocks = *std::max_element(depths.begin(), depths.end());
  return with_residual({model, {embed}, depths, std::vector<SearchSpace::Block>(static_cast<std::size_t>(blocks), block)}, rule);
}

Weights unit_branches(const SearchSpace& space, std::uint64_t seed) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float64);
  initialize(weights, seed, nullptr, Init::gpt2);
  // E[gelu(z)²] of z ~ N(0, 1), by a sum over the density.
  double second_moment = 0;
  for (double z = -8; z < 8; z += 1e-3) {
    const double gelu = z * 0.5 * std::erfc(-z / std::sqrt(2.0));
    second_moment += 1e-3 * gelu * gelu * std::exp(-z * z / 2) / std::sqrt(2 * std::acos(-1.0));
  }
  const auto scale_to = [&](const TensorSpec& tensor, double deviation) {
    const View view = weights.view(tensor);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t c = 0; c < view.columns; ++c) view.row<double>(row)[c] *= deviation / 0.02;
  };
  for (const TensorSpec& tensor : weights.table().tensors()) {
    if (tensor.name == "embedding.token") scale_to(tensor, 1);
    if (tensor.name.ends_with(".up") || tensor.name.ends_with(".value") || tensor.name.ends_with(".out"))
      scale_to(tensor, 1 / std::sqrt(static_cast<double>(tensor.rows)));
    if (tensor.name.ends_with(".down")) scale_to(tensor, 1 / std::sqrt(second_moment * static_cast<double>(tensor.rows)));
  }
  return weights;
}

double stream_variance(const SearchSpace& space, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch) {
  const Network network(space, backend.dtype());
  const std::int64_t rows = batch.rows(), stream = Arena::bytes_for(rows, subnet.embed, backend.dtype());
  std::int64_t scratch = 0;
  for (const BlockGenes& genes : subnet.blocks)
    scratch = std::max(scratch, network.plan_block(backend.traits(), subnet.embed, genes, batch.sequences, batch.tokens));
  Arena arena(2 * stream + scratch);
  View x = arena.matrix(rows, subnet.embed, backend.dtype()), y = arena.matrix(rows, subnet.embed, backend.dtype());
  network.embed(backend, weights, subnet.embed, batch, x, arena);
  for (int i = 0; i < subnet.depth(); ++i) {
    network.forward_block(backend, weights, subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], subnet.block_index(i), subnet.depth(),
                          batch.tokens, x, y, arena);
    std::swap(x, y);
  }
  return backend.sum_squares(x) / static_cast<double>(x.size());
}

}  // namespace elastiform
