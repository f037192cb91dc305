#include "supernet/activation_statistics.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "supernet/network_parts.hpp"

namespace elastiform {
namespace {

/// Adds the square of each column's elements, rows in order.
void add_squares(std::vector<double>& sums, ConstView x) {
  sums.resize(static_cast<std::size_t>(x.columns));
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const float* values = x.row<float>(row);
    for (std::size_t c = 0; c < sums.size(); ++c) sums[c] += static_cast<double>(values[c]) * static_cast<double>(values[c]);
  }
}

void divide(std::vector<double>& sums, std::int64_t count) {
  for (double& sum : sums) sum /= static_cast<double>(count);
}

}  // namespace

std::int64_t Network::plan_observe(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch, std::int64_t tokens) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const auto bytes_of = [&](const LayerTensors& tensors) { return tensors.saved_bytes({}, traits) + tensors.forward_bytes({}, traits); };
  std::int64_t most = std::max(plan_embed(traits, subnet.embed, batch), plan_hidden(traits, subnet, batch, tokens));
  for (const BlockGenes& genes : subnet.blocks) {
    const BlockShape shape = p.shape(batch, tokens, subnet.embed, genes, subnet.depth());
    if (genes.heads > 0) most = std::max(most, bytes_of(Attention::tensors(model, shape, traits)));
    if (genes.ffn > 0) most = std::max(most, bytes_of(FeedForward::tensors(model, shape, traits)));
  }
  return 2 * TensorShape{batch * tokens, subnet.embed}.bytes(p.dtype) + most;
}

void Network::observe(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, Observer observer, View hidden,
                      Arena& arena) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const BackendTraits traits = backend.traits();
  const ArenaScope whole(arena);
  View x = arena.matrix(batch.rows(), subnet.embed, p.dtype), y = arena.matrix(batch.rows(), subnet.embed, p.dtype);
  p.embed(backend, values, subnet.embed, batch, x, arena);
  for (int i = 0; i < subnet.depth(); ++i) {
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const BlockShape shape = p.shape(batch.sequences, batch.tokens, subnet.embed, genes, subnet.depth());
    if (genes.heads > 0) {
      const ArenaScope scope(arena);
      const Saved saved(arena, Attention::tensors(model, shape, traits), {}, traits);
      p.attention.forward(backend, p.effective(backend, p.attention_slices(values, subnet.block_index(i), subnet.embed, genes), arena),
                          shape, saved, y, x, arena);
      observer(i, {saved.read(Attention::kNormed), saved.read(Attention::kMixed), {}, {}});
      std::swap(x, y);
    }
    if (genes.ffn > 0) {
      const ArenaScope scope(arena);
      const Saved saved(arena, FeedForward::tensors(model, shape, traits), {}, traits);
      p.feed_forward.forward(backend,
                             p.effective(backend, p.feed_forward_slices(values, subnet.block_index(i), subnet.embed, genes), arena), shape,
                             saved, y, x, arena);
      observer(i, {{}, {}, saved.read(FeedForward::kNormed), saved.read(FeedForward::kActivated)});
      std::swap(x, y);
    }
  }
  const ConstView read = p.pooled(backend, x, batch, arena);
  const Saved saved(arena, Head::tensors(model, p.head_shape(batch.sequences, batch.tokens, subnet.embed), backend.traits(), false).saved,
                    p.dtype);
  p.head.hidden(backend, p.head_slices(values, subnet.embed), saved, read);
  backend.copy(hidden, saved.read(Head::kHidden));
}

ActivationStatistics activation_statistics(Backend& backend, const Weights& weights, std::span<const Batch> batches) {
  if (batches.empty() || !weights.on_host() || weights.dtype() != DType::float32)
    throw std::logic_error("activation statistics: float32 weights on the host, and a batch");
  const Network network(weights.table().space(), DType::float32);
  const Subnet subnet = network.space().largest();
  const Batch& first = batches.front();
  const std::int64_t rows = first.targets_count();
  Arena arena(network.plan_observe(backend.traits(), subnet, first.sequences, first.tokens) +
              Arena::bytes_for(rows, subnet.embed, DType::float32));
  const View hidden = arena.matrix(rows, subnet.embed, DType::float32);
  ActivationStatistics sums;
  sums.blocks.resize(subnet.blocks.size());
  std::int64_t hidden_rows = 0;
  for (const Batch& batch : batches) {
    network.observe(
        backend, weights, subnet, batch,
        [&](int i, const BlockInputs& inputs) {
          ActivationStatistics::Block& block = sums.blocks[static_cast<std::size_t>(i)];
          if (!inputs.attention_normed.empty()) add_squares(block.attention_normed, inputs.attention_normed);
          if (!inputs.mixed.empty()) add_squares(block.mixed, inputs.mixed);
          if (!inputs.feed_forward_normed.empty()) add_squares(block.feed_forward_normed, inputs.feed_forward_normed);
          if (!inputs.activated.empty()) add_squares(block.activated, inputs.activated);
        },
        hidden, arena);
    add_squares(sums.hidden, hidden);
    sums.tokens += batch.rows();
    hidden_rows += batch.targets_count();
  }
  divide(sums.hidden, hidden_rows);
  for (ActivationStatistics::Block& block : sums.blocks)
    for (std::vector<double>* of : {&block.attention_normed, &block.mixed, &block.feed_forward_normed, &block.activated})
      divide(*of, sums.tokens);
  return sums;
}

}  // namespace elastiform
